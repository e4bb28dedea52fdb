//! Devices, their drivers, buses and classes (drivers/base/).
//!
//! Every device is in `devices_kset`, by its `struct kobject`. Buses and classes are each a `struct subsys_private`, in
//! `bus_kset` and `class_kset`, with a klist of their devices.
//!
//! ```console
//! > ::walk device | ::print struct device kobj.name ! head -n 2
//! kobj.name = 0xffffffffbd28f867 "platform"
//! kobj.name = 0xffffffffbd2aa5c0 "memory"
//! ```

use crate::list;
use engine::{ViewEntry, prelude::*};

/// `struct device` (include/linux/device.h).
#[derive(View, Clone, Debug)]
#[ctype("device")]
pub struct Device {
    /// its address
    #[addr]
    pub addr: u64,
    #[field("kobj.name")]
    name: u64,
    init_name: u64,
    /// the device that it is behind; 0 if none
    pub parent: u64,
    /// `struct bus_type`
    pub bus: u64,
    /// `struct device_driver`
    pub driver: u64,
    /// `struct class`
    pub class: u64,
    /// `dev_t`
    pub devt: u32,
    /// what its driver keeps
    pub driver_data: u64,
}

impl Device {
    /// Its name: `0000:00:03.0`, `eth0`.
    pub fn name(&self, session: &Session) -> Result<String> {
        match (self.init_name, self.name) {
            (0, 0) => Ok(String::new()),
            (0, name) | (name, _) => session.cstr(name, 128),
        }
    }

    /// Major and minor number, if it has a file.
    pub fn numbers(&self) -> Option<(u32, u32)> {
        (self.devt != 0).then_some((self.devt >> 20, self.devt & 0xf_ffff))
    }
}

/// `struct device_driver`.
#[derive(View, Clone, Debug)]
#[ctype("device_driver")]
pub struct Driver {
    /// its address
    #[addr]
    pub addr: u64,
    name: u64,
    /// `struct bus_type`
    pub bus: u64,
    /// `struct module`; 0 if it is built in
    pub owner: u64,
    /// called for a device that it may be for
    pub probe: u64,
    #[field("p")]
    own: u64,
}

impl Driver {
    /// Its name.
    pub fn name(&self, session: &Session) -> Result<String> {
        session.cstr(self.name, 128)
    }

    /// Visits its devices.
    pub fn devices(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        match self.own {
            0 => Ok(()),
            own => klist(
                session,
                own.wrapping_add(session.offset("driver_private", "klist_devices")?),
                DEVICES_OF_DRIVER,
                visit,
            ),
        }
    }
}

/// The private half of a bus or a class: `struct subsys_private` (drivers/base/base.h).
#[derive(View, Clone, Debug)]
#[ctype("subsys_private")]
pub struct Subsystem {
    /// its address
    #[addr]
    pub addr: u64,
    #[field("subsys.kobj.name")]
    name: u64,
    /// `struct bus_type`; 0 of a class
    pub bus: u64,
    /// `struct class`; 0 of a bus
    pub class: u64,
    klist_devices: At,
    klist_drivers: At,
}

/// In which struct a klist's node is, which member it is, and which one leads to what it stands for.
type Link = (&'static str, &'static str, &'static str);
const DEVICES_OF_BUS: Link = ("device_private", "knode_bus", "device");
const DEVICES_OF_CLASS: Link = ("device_private", "knode_class", "device");
const DEVICES_OF_DRIVER: Link = ("device_private", "knode_driver", "device");
const DRIVERS_OF_BUS: Link = ("driver_private", "knode_bus", "driver");

impl Subsystem {
    /// Its name: `pci`, `net`.
    pub fn name(&self, session: &Session) -> Result<String> {
        session.cstr(self.name, 128)
    }

    /// Visits its devices.
    pub fn devices(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        let link = if self.bus != 0 { DEVICES_OF_BUS } else { DEVICES_OF_CLASS };
        klist(session, self.klist_devices.0, link, visit)
    }

    /// Visits its drivers.
    pub fn drivers(&self, session: &Session, visit: Visit<'_>) -> Result<()> {
        klist(session, self.klist_drivers.0, DRIVERS_OF_BUS, visit)
    }
}

fn klist(session: &Session, at: u64, (ctype, node, to): Link, visit: Visit<'_>) -> Result<()> {
    let link = session.offset(ctype, node)?.wrapping_add(session.offset("klist_node", "n_node")?);
    let to = session.offset(ctype, to)?;
    list::list(session, at.wrapping_add(session.offset("klist", "k_list")?), link, &mut |private| match session
        .u64(private.wrapping_add(to))
    {
        Ok(found) => visit(found),
        Err(e) if e.is_control() => Err(e),
        Err(e) => {
            session.notes.add(private, format!("device: {}", e.kind()));
            Ok(())
        }
    })
}

/// Visits each struct whose `struct kobject`, at `offset`, is in the set that a variable points at.
fn kset(session: &Session, variable: &str, offset: u64, visit: Visit<'_>) -> Result<()> {
    let set = session.u64(session.symbol(variable)?)?;
    let link = offset.wrapping_add(session.offset("kobject", "entry")?);
    list::list(session, set.wrapping_add(session.offset("kset", "list")?), link, visit)
}

/// Visits every device, the oldest first.
pub fn each(session: &Session, visit: Visit<'_>) -> Result<()> {
    kset(session, "devices_kset", session.offset("device", "kobj")?, visit)
}

/// Visits every bus.
pub fn buses(session: &Session, visit: Visit<'_>) -> Result<()> {
    kset(session, "bus_kset", session.offset("subsys_private", "subsys.kobj")?, visit)
}

/// Visits every class.
pub fn classes(session: &Session, visit: Visit<'_>) -> Result<()> {
    kset(session, "class_kset", session.offset("subsys_private", "subsys.kobj")?, visit)
}

/// Names of what devices point at: of buses, of classes.
pub fn names(session: &Session) -> Result<std::collections::HashMap<u64, String>> {
    let mut found = std::collections::HashMap::new();
    let mut add = |at: u64| {
        let subsystem: Subsystem = session.view(at)?;
        let owner = if subsystem.bus != 0 { subsystem.bus } else { subsystem.class };
        found.insert(owner, subsystem.name(session)?);
        Ok(())
    };
    buses(session, &mut add)?;
    classes(session, &mut add)?;
    Ok(found)
}

/// A PCI device: `struct pci_dev` (include/linux/pci.h).
#[derive(View, Clone, Debug)]
#[ctype("pci_dev")]
pub struct Pci {
    /// its address
    #[addr]
    pub addr: u64,
    /// who made it
    pub vendor: u16,
    /// what it is
    pub device: u16,
    /// base class, subclass, interface: a byte each
    pub class: u32,
    /// number of its interrupt
    pub irq: u32,
}

/// Visits every PCI device's `struct device`.
pub fn pci(session: &Session, visit: &mut dyn FnMut(Pci, Device) -> Result<()>) -> Result<()> {
    let inside = session.offset("pci_dev", "dev")?;
    let bus = session.symbol("pci_bus_type")?;
    buses(session, &mut |at| {
        let subsystem: Subsystem = session.view(at)?;
        if subsystem.bus != bus {
            return Ok(());
        }
        subsystem
            .devices(session, &mut |device| visit(session.view(device.wrapping_sub(inside))?, session.view(device)?))
    })
}

/// Numbers of files of devices that somebody has taken: of character devices `struct char_device_struct` (fs/char_dev.c),
/// of block devices `struct blk_major_name` (block/genhd.c).
#[derive(Clone, Debug)]
pub struct Numbers {
    /// its struct
    pub addr: u64,
    /// whether it is for block devices
    pub block: bool,
    /// the major number
    pub major: u32,
    /// the first minor number, and how many; of block devices all
    pub minors: Option<(u32, i32)>,
    /// who has them
    pub name: String,
    /// `struct cdev`
    pub cdev: u64,
}

/// `struct char_device_struct`.
#[derive(View)]
#[ctype("char_device_struct")]
struct Char {
    major: u32,
    baseminor: u32,
    minorct: i32,
    name: String,
    cdev: u64,
}

/// `struct blk_major_name`.
#[derive(View)]
#[ctype("blk_major_name")]
struct Block {
    major: u32,
    name: String,
}

/// `CHRDEV_MAJOR_HASH_SIZE`, `BLKDEV_MAJOR_HASH_SIZE`.
const LISTS: u64 = 255;

/// Shows every range of numbers to `visit`, by major number: of character devices, then of block devices.
pub fn numbers(session: &Session, visit: &mut dyn FnMut(Numbers) -> Result<()>) -> Result<()> {
    let mut found = Vec::new();
    let chains = |table: &str, ctype: &str, add: Visit<'_>| -> Result<()> {
        let next = session.offset(ctype, "next")?;
        crate::container::words(session, session.symbol(table)?, LISTS, 8, &mut |_, first| {
            list::chain(session, first, next, &mut *add)
        })
    };
    chains("chrdevs", "char_device_struct", &mut |addr| {
        let one: Char = session.view(addr)?;
        let minors = Some((one.baseminor, one.minorct));
        found.push(Numbers { addr, block: false, major: one.major, minors, name: one.name, cdev: one.cdev });
        Ok(())
    })?;
    chains("major_names", "blk_major_name", &mut |addr| {
        let one: Block = session.view(addr)?;
        found.push(Numbers { addr, block: true, major: one.major, minors: None, name: one.name, cdev: 0 });
        Ok(())
    })?;
    found.sort_by_key(|one| (one.block, one.major, one.minors));
    found.into_iter().try_for_each(visit)
}

fn subsystem(cx: &Cx<'_>, at: Option<Object>) -> Result<Subsystem> {
    cx.view(at.map_or(0, |o| o.addr))
}

/// Walks them.
pub static WALKERS: &[WalkerEntry] = &[
    WalkerEntry {
        name: "device",
        doc: "walk all devices, or those of the struct subsys_private (a bus, a class) at the address",
        item: "struct device",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(_) => subsystem(cx, at)?.devices(cx, visit),
            None => each(cx, visit),
        },
    },
    WalkerEntry {
        name: "bus",
        doc: "walk the buses",
        item: "struct subsys_private",
        address: Address::None,
        walk: |cx, _, visit| buses(cx, visit),
    },
    WalkerEntry {
        name: "class",
        doc: "walk the classes of devices",
        item: "struct subsys_private",
        address: Address::None,
        walk: |cx, _, visit| classes(cx, visit),
    },
    WalkerEntry {
        name: "driver",
        doc: "walk the drivers of every bus, or of the struct subsys_private at the address",
        item: "struct device_driver",
        address: Address::Optional,
        walk: |cx, at, visit| match at {
            Some(_) => subsystem(cx, at)?.drivers(cx, visit),
            None => buses(cx, &mut |bus| cx.view::<Subsystem>(bus)?.drivers(cx, &mut *visit)),
        },
    },
];

/// The views of this file.
pub static VIEWS: &[ViewEntry] = &[
    ViewEntry::of::<Device>(),
    ViewEntry::of::<Driver>(),
    ViewEntry::of::<Subsystem>(),
    ViewEntry::of::<Pci>(),
    ViewEntry::of::<Char>(),
    ViewEntry::of::<Block>(),
];
