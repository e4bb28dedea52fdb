//! Names and mounts.

use super::{Dump, each_dump};
use engine::Session;
use std::collections::{BTreeMap, BTreeSet};
use walkers::{
    dentry::{self, Dentry, Paths},
    mount::{self, Mount},
    percpu::Percpu,
    slab::{Slabs, State},
    super_block::{self, SuperBlock},
    xarray,
};

/// A counter that the kernel keeps in parts, one for each CPU.
fn counter(session: &Session, name: &str) -> u64 {
    let symbol = session.kernel_symbol(name).unwrap();
    Percpu::of(session).unwrap().copies(symbol).map(|(_, at)| session.u64(at).unwrap()).fold(0, u64::wrapping_add)
}

/// `/proc/sys/fs/dentry-state` has two of the numbers; the kernel's own counters are these.
#[test]
fn names_are_as_many_as_the_kernel_counts() {
    each_dump(|dump| {
        let session = &dump.session;
        let slabs = Slabs::of(session).unwrap();
        let cache = slabs.caches.named("dentry").next().unwrap();
        let mut all = BTreeMap::new();
        slabs
            .each(session, cache, State::Allocated, &mut |addr| {
                all.insert(addr, session.view::<Dentry>(addr)?);
                Ok(())
            })
            .unwrap();
        let dead = all.values().filter(|d| d.is_dead()).count();
        assert_eq!((all.len() - dead) as u64, counter(session, "nr_dentry"), "{}", dump.name);

        let (mut lru, mut tree) = (BTreeSet::new(), BTreeSet::new());
        super_block::each(session, &mut |sb| {
            dentry::lru(session, sb, &mut |d| {
                assert!(all[&d].is_on_lru() && lru.insert(d), "{} {d:x}", dump.name);
                Ok(())
            })?;
            dentry::of_super_block(session, sb, &mut |d| {
                assert!(all[&d].super_block == sb && tree.insert(d), "{} {d:x}", dump.name);
                Ok(())
            })
        })
        .unwrap();
        assert_eq!(lru.len() as u64, counter(session, "nr_dentry_unused"), "{}", dump.name);
        for (addr, d) in &all {
            assert_eq!(d.is_on_lru(), lru.contains(addr), "{} {addr:x}", dump.name);
            assert!(
                tree.contains(addr) || d.is_dead() || d.is_root() || d.is_cursor(session),
                "{} {addr:x}",
                dump.name
            );
        }

        let start = std::time::Instant::now();
        let paths = Paths::of(session).unwrap();
        for d in all.values() {
            assert!(paths.path(session, d).unwrap().starts_with('/'));
        }
        eprintln!(
            "{}: {} names, {dead} dead, {} unused, {} in trees; paths in {:?}; {:?}",
            dump.name,
            all.len(),
            lru.len(),
            tree.len(),
            start.elapsed(),
            session.notes.take()
        );
    });
}

type Line = (i32, i32, String, String, String, String, String, String);

/// A file of the shape of /proc/PID/mountinfo: proc(5).
fn theirs(dump: &Dump, file: &str) -> BTreeSet<Line> {
    let text = dump.truth(file).unwrap_or_default();
    let plain = |word: &str| word.replace("\\040", " ");
    let line = |line: &str| {
        let w: Vec<&str> = line.split(' ').collect();
        let rest = w.iter().position(|w| *w == "-")?;
        let (id, parent) = (w[0].parse().ok()?, w[1].parse().ok()?);
        Some((id, parent, w[2].into(), plain(w[3]), plain(w[4]), w[5].into(), w[rest + 1].into(), plain(w[rest + 2])))
    };
    text.lines().filter_map(line).collect()
}

fn ours(session: &Session, namespace: u64) -> BTreeSet<Line> {
    let mut found = BTreeSet::new();
    mount::each(session, namespace, &mut |addr| {
        let mount: Mount = session.view(addr)?;
        let parent: Mount = session.view(mount.parent)?;
        let sb: SuperBlock = session.view(mount.super_block)?;
        let (major, minor) = sb.device();
        found.insert((
            mount.id,
            parent.id,
            format!("{major}:{minor}"),
            mount.root_path(session)?,
            mount.path(session)?,
            mount.options(session),
            sb.kind(session)?,
            mount.source(session)?,
        ));
        Ok(())
    })
    .unwrap();
    found
}

#[test]
fn mounts_are_those_of_mountinfo() {
    each_dump(|dump| {
        let session = &dump.session;
        let mut mine = Vec::new();
        mount::namespaces(session, &mut |ns| {
            mine.push(ours(session, ns));
            Ok(())
        })
        .unwrap();
        // the first namespace of newer kernels has a mount below all others that nobody sees
        let mut first = mine[0].clone();
        first.retain(|m| m.6 != "nullfs");
        assert_eq!(first, theirs(dump, "mountinfo"), "{}", dump.name);
        let other = theirs(dump, "mountinfo.ns");
        assert!(mine.iter().any(|ns| other.is_subset(ns)), "{}: {other:?}", dump.name);
        eprintln!(
            "{}: {} and {} mounts equal, {} namespaces; {:?}",
            dump.name,
            first.len(),
            other.len(),
            mine.len(),
            session.notes.take()
        );
    });
}

/// Page caches are the largest arrays there are.
#[test]
fn page_caches_have_as_many_pages_as_they_count() {
    each_dump(|dump| {
        let session = &dump.session;
        let offset = |ctype, member| session.offset(ctype, member).unwrap();
        let mapping = offset("inode", "i_data");
        let (array, count) = (offset("address_space", "i_pages"), offset("address_space", "nrpages"));
        let (mut pages, mut caches, mut last) = (0, BTreeSet::new(), 0);
        super_block::each(session, &mut |sb| {
            dentry::of_super_block(session, sb, &mut |d| {
                let inode = session.view::<Dentry>(d)?.inode;
                if inode == 0 || !caches.insert(inode) {
                    return Ok(());
                }
                let cache = inode.wrapping_add(mapping);
                let (mut found, mut before) = (0, None);
                xarray::each(session, cache.wrapping_add(array), &mut |index, entry| {
                    assert!(before < Some(index));
                    (before, last) = (Some(index), last.max(index));
                    // integers are traces of pages that were reclaimed
                    found += u64::from(entry & 1 == 0);
                    Ok(())
                })?;
                assert_eq!(found, session.u64(cache.wrapping_add(count))?, "{} inode {inode:x}", dump.name);
                pages += found;
                Ok(())
            })
        })
        .unwrap();
        assert!(pages > 100);
        eprintln!(
            "{}: {pages} pages of {} inodes, largest index {last}; {:?}",
            dump.name,
            caches.len(),
            session.notes.take()
        );
    });
}
