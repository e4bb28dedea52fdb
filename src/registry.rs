//! Everything kmdb can do, in one table.

use engine::Registry;

/// The table.
pub static REGISTRY: Registry = Registry {
    dcmds: dcmds::DCMDS,
    walkers: walkers::WALKERS,
    dynamic: walkers::DYNAMIC,
    modules: walkers::module::load,
    sections: walkers::module::sections,
    crash_cpu: walkers::cpu::crashed,
    anchors: walkers::anchors::find,
    thread: walkers::cpu::thread,
    is_ram: walkers::resource::is_ram,
    examples: include_str!("../docs/examples.md"),
    disassemble: dcmds::dis::disassemble,
};
