//! Completion, colours and hints on a real dump, without a terminal.
#![allow(clippy::unwrap_used)]

use super::{complete::Completer, highlight::highlight, hint::hint};
use crate::{args::Cli, face::Program, open, render::Format};
use clap::Parser;
use engine::{Cx, Env};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

fn with_dump(ask: impl FnOnce(&Cx<'_>)) {
    let dump = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/k612-uaf/vmcore.zst");
    let cli = Cli::parse_from(["kmdb", "--no-debuginfo", dump]);
    let program = Program {
        format: Format::Table,
        color: false,
        paged: false,
        echo: false,
        failed: Cell::new(false),
        findings: Cell::new(false),
        closed: Cell::new(false),
        trouble: Default::default(),
        log: crate::log::Log::default(),
    };
    let session = open::session(&cli, &program).unwrap();
    let env = Env::default();
    dcmds::tools::load(&env);
    ask(&Cx { session: &session, env: &env, face: &program });
}

#[test]
fn every_kind_of_name_is_completed() {
    with_dump(|cx| {
        engine::pipeline::run(cx, "::macro nearby 'what is near' '.,8/X'; 1>counter_of_mine").unwrap();
        let completer = Completer::new(cx);
        for (line, becomes) in [
            // dcmds, macros, and a blank behind the only one
            ("::msgb", "::msgbuf "),
            ("1=X; ::msgb", "1=X; ::msgbuf "),
            ("::walk task | ::msgb", "::walk task | ::msgbuf "),
            ("::nearb", "::nearby "),
            ("::help msgb", "::help msgbuf"),
            // walkers and caches
            ("::walk super_bl", "::walk super_block "),
            ("::walk kmalloc-cg-12", "::walk kmalloc-cg-128 "),
            ("::kmem_cache -n kmalloc-cg-12", "::kmem_cache -n kmalloc-cg-128"),
            // options
            ("::kmem_cache -", "::kmem_cache -n "),
            // symbols, in expressions and as arguments
            ("init_tas", "init_task"),
            ("*(init_tas", "*(init_task"),
            ("1+init_tas", "1+init_task"),
            ("labmod`lab_swe", "labmod`lab_sweep"),
            ("labmo", "labmod`"),
            ("::walk kmem_log | ::bufctl -c lab_rele", "::walk kmem_log | ::bufctl -c lab_release"),
            ("<counter_of", "<counter_of_mine"),
            ("1=X; 2>counter_of", "1=X; 2>counter_of_mine"),
            // types
            ("::sizeof task_struc", "::sizeof task_struct"),
            ("::print struct task_struc", "::print struct task_struct"),
            ("::print 'struct task_struc", "::print 'struct task_struct"),
            // members: of a named type, of what the address is, of what the stages before yield
            ("::print struct dentry d_name.le", "::print struct dentry d_name.len"),
            ("::print dentry d_parent->d_name.le", "::print dentry d_parent->d_name.len"),
            ("::print -t struct dentry d_iname d_name.le", "::print -t struct dentry d_iname d_name.len"),
            ("init_task::print se.avg.load_a", "init_task::print se.avg.load_avg"),
            ("init_task::print thread_pid->numbers[0].n", "init_task::print thread_pid->numbers[0].ns"),
            ("::walk task | ::print mm->pg", "::walk task | ::print mm->pgd"),
            ("::walk task | ::print mm | ::print pg", "::walk task | ::print mm | ::print pgd"),
            (
                "::walk dentry | ::head | ::print d_sb->s_blocksize_b",
                "::walk dentry | ::head | ::print d_sb->s_blocksize_bits",
            ),
            ("::ps | ::print mm->pg", "::ps | ::print mm->pgd"),
            ("::ps | ::where pp", "::ps | ::where ppid"),
            ("::ps | ::where pid==1&&pp", "::ps | ::where pid==1&&ppid"),
            ("::walk task | ::where 'mm->total_v", "::walk task | ::where 'mm->total_vm"),
            ("modules::list struct module lis", "modules::list struct module list"),
            ("modules::list struct module list | ::print taint", "modules::list struct module list | ::print taints"),
        ] {
            let (start, found) = completer.complete(line);
            let all: Vec<String> = found.iter().map(|name| format!("{}{name}", &line[..start])).collect();
            assert!(all.iter().any(|text| text == becomes), "{line}: {:?}", &all[..all.len().min(8)]);
        }
    });
}

#[test]
fn nothing_typed_makes_completion_colours_or_hints_fail() {
    with_dump(|cx| {
        let completer = Completer::new(cx);
        let line = "init_task,2::print -at 'struct dentry' d_name.name[3]->x $[1+2] | ::where 'a == \"b\" || c' ! \
                    'grep é' | ::walk kmalloc-64 x; */4/(<rip)=X // ü\n$<x; 1>/i/y; ::nosuch -Z | $c | ::bufctl -c";
        for end in line.char_indices().map(|(at, _)| at).chain([line.len()]) {
            let part = &line[..end];
            completer.complete(part);
            hint(cx, part, 60);
            let painted = highlight(cx, part);
            let plain: String = painted
                .split('\x1b')
                .enumerate()
                .map(|(i, text)| if i == 0 { text } else { text.split_once('m').unwrap().1 })
                .collect();
            assert_eq!(plain, part);
        }
        for end in line.char_indices().map(|(at, _)| at) {
            completer.complete(&line[end..]);
            highlight(cx, &line[end..]);
        }
        assert!(cx.notes.take().is_empty());
    });
}

#[test]
fn completion_is_not_felt() {
    with_dump(|cx| {
        let completer = Completer::new(cx);
        // the first one builds what all others use
        completer.complete("schedu");
        let mut worst = Duration::ZERO;
        for line in ["schedu", "a", "_", "task_", "zzz", "::walk k", "::print struct t", "init_task::print "] {
            let started = Instant::now();
            let (_, found) = completer.complete(line);
            let _ = highlight(cx, line);
            worst = worst.max(started.elapsed());
            assert!(!found.is_empty() || line == "zzz", "{line}");
        }
        // a person feels a tenth of a second; a loaded machine must not fail the test
        assert!(worst < Duration::from_millis(500), "{worst:?}");
    });
}
