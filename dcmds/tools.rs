//! The tools of the trade, under the names that BCC gave them, as pipelines: macros in kmdb's own language, all in
//! `tools.kmdb`. `::help opensnoop` shows one, and one of your own (`::macro`) may take its place.
//!
//! ```console
//! > ::opensnoop -x -c 2
//! TIME     CPU   PID COMM RET FILENAME
//! 0.000000   1 30361 cat   -2 /etc/ld.so.nohwcap
//! 0.000412   1 30361 cat   -2 /nonexistent
//! ```

use engine::{
    Env,
    lang::{
        self,
        ast::{StageKind, WordKind},
    },
    macros::Macro,
};

const TEXT: &str = include_str!("tools.kmdb");

/// Gives the tools to a session.
pub fn load(env: &Env) {
    let mut macros = env.macros.borrow_mut();
    for tool in TEXT.split("\n\n").filter_map(read) {
        macros.insert(tool.name.clone(), tool);
    }
}

/// From `::macro NAME 'HELP' "PIPELINE"`.
fn read(text: &str) -> Option<Macro> {
    let statements = lang::parse(text, 16).ok()?;
    let [statement] = &statements[..] else { return None };
    let [stage] = &statement.stages[..] else { return None };
    let StageKind::Dcmd { args, .. } = &stage.kind else { return None };
    let mut words = args.iter().map(|word| match &word.kind {
        WordKind::Text(text) => text.as_str(),
        WordKind::Immediate(_) => word.raw.as_str(),
    });
    let mut tool = Macro::new(words.next()?, words.next()?, words.next()?).ok()?;
    tool.built_in = true;
    Some(tool)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use engine::macros::Argument;

    #[test]
    fn every_tool_is_in_the_language() {
        let texts: Vec<_> = TEXT.split("\n\n").collect();
        for text in &texts {
            let tool = read(text).unwrap_or_else(|| panic!("{text}"));
            assert!(crate::DCMDS.iter().all(|family| family.iter().all(|d| d.name != tool.name)), "{}", tool.name);
            // with every option and enough arguments it is a pipeline still
            let mut words = Vec::new();
            for (letter, word) in tool.options() {
                words.push(format!("-{letter}"));
                words.extend(word);
            }
            words.extend(["k:f", "arg0"].iter().take(tool.usage().matches("ARG").count()).map(|w| (*w).to_owned()));
            let words: Vec<_> = words.into_iter().map(|w| Argument { raw: w.clone(), text: w }).collect();
            let pipeline = tool.expand(&words).unwrap();
            assert_eq!(lang::parse(&pipeline, 16).unwrap().len(), 1, "{pipeline}");
        }
        assert!(texts.len() > 20);
    }
}
