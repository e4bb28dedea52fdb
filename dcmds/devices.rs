//! Devices: `::devices`, `::drivers`, `::buses`, `::pci`, `::chrdevs`.
//!
//! ```console
//! > ::pci | ::head -n 2
//! ADDR             BDF          CLASS VENDOR DEVICE IRQ DRIVER
//! ff3a288dc1dac000 0000:00:00.0 60000   8086   29c0   0 -
//! ff3a288dc1ea9000 0000:00:01.0  ff00   1af4   1005  21 virtio-pci
//! ```

use engine::{IntoRow, prelude::*};
use std::collections::HashMap;
use walkers::device::{self, Device, Driver, Numbers, Pci, Subsystem};

/// Show devices: their name, bus, class, driver, and the device they are behind.
///
/// With the address of a `struct subsys_private` (a bus or a class, from `::buses`), those of it; of a `struct device`,
/// that one.
#[derive(Args)]
pub struct Devices {
    /// only those of this bus or class: pci, virtio, net, block
    of: Option<String>,
}

/// A device.
#[derive(Row)]
struct DeviceRow {
    /// address of its struct device
    addr: Object,
    /// its name
    name: Result<String>,
    /// its bus
    bus: Option<String>,
    /// its class
    class: Option<String>,
    /// its driver
    driver: Option<Result<String>>,
    /// major and minor number of its file
    #[heading("DEV")]
    numbers: Option<String>,
    /// name of the device that it is behind
    parent: Option<Result<String>>,
}

fn driver_name(cx: &Cx<'_>, at: u64) -> Option<Result<String>> {
    (at != 0).then(|| cx.view::<Driver>(at)?.name(cx))
}

fn device(cx: &Cx<'_>, names: &HashMap<u64, String>, at: u64, out: &mut Out<'_>) -> Result<()> {
    let device: Device = match cx.view(at) {
        Ok(device) => device,
        Err(e) if e.is_control() => return Err(e),
        Err(e) => {
            cx.notes.add(at, format!("device: {}", e.kind()));
            return Ok(());
        }
    };
    out.row(DeviceRow {
        addr: cx.object("device", at),
        name: device.name(cx),
        bus: names.get(&device.bus).cloned(),
        class: names.get(&device.class).cloned(),
        driver: driver_name(cx, device.driver),
        numbers: device.numbers().map(|(major, minor)| format!("{major}:{minor}")),
        parent: (device.parent != 0).then(|| cx.view::<Device>(device.parent)?.name(cx)),
    })
}

fn is(cx: &Cx<'_>, at: Option<Object>, name: &str) -> bool {
    at.is_some_and(|o| o.ctype.is_some() && o.ctype == cx.struct_type(name))
}

impl Dcmd for Devices {
    const NAME: &'static str = "devices";
    const ROWS: &'static [&'static engine::Schema] = &[DeviceRow::SCHEMA];
    const PASSES: &'static str = "struct device";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let names = device::names(cx)?;
        let mut show = |at: u64| device(cx, &names, at, out);
        if let Some(asked) = &self.of {
            let mut found = false;
            let mut of = |at: u64| -> Result<()> {
                let subsystem: Subsystem = cx.view(at)?;
                if subsystem.name(cx)? != *asked {
                    return Ok(());
                }
                found = true;
                subsystem.devices(cx, &mut show)
            };
            device::buses(cx, &mut of)?;
            device::classes(cx, &mut of)?;
            let none = || Error::Usage(format!("no bus or class `{asked}`")).hint("`::buses` lists them");
            return if found { Ok(()) } else { Err(none()) };
        }
        match at {
            Some(one) if is(cx, at, "subsys_private") => cx.view::<Subsystem>(one.addr)?.devices(cx, &mut show),
            Some(one) => show(one.addr),
            None => device::each(cx, &mut show),
        }
    }
}

/// Show buses and classes of devices: how many devices and drivers each has.
#[derive(Args)]
pub struct Buses {}

/// A bus or a class.
#[derive(Row)]
struct BusRow {
    /// address of its struct subsys_private
    addr: Object,
    /// bus or class
    kind: &'static str,
    /// its name
    name: Result<String>,
    /// its devices
    devices: Result<u64>,
    /// a bus's drivers
    drivers: Option<Result<u64>>,
}

impl Dcmd for Buses {
    const NAME: &'static str = "buses";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[BusRow::SCHEMA];
    const PASSES: &'static str = "struct subsys_private";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let mut show = |at: u64, kind: &'static str| {
            let subsystem: Subsystem = cx.view(at)?;
            let count = |walk: &dyn Fn(Visit<'_>) -> Result<()>| {
                let mut count = 0;
                walk(&mut |_| {
                    count += 1;
                    Ok(())
                })
                .map(|()| count)
            };
            out.row(BusRow {
                addr: cx.object("subsys_private", at),
                kind,
                name: subsystem.name(cx),
                devices: count(&|visit| subsystem.devices(cx, visit)),
                drivers: (kind == "bus").then(|| count(&|visit| subsystem.drivers(cx, visit))),
            })
        };
        device::buses(cx, &mut |at| show(at, "bus"))?;
        device::classes(cx, &mut |at| show(at, "class"))
    }
}

/// Show the drivers of devices: their bus, their module, the devices that each has.
#[derive(Args)]
pub struct Drivers {}

/// A driver.
#[derive(Row)]
struct DriverRow {
    /// address of its struct device_driver
    addr: Object,
    /// its name
    name: Result<String>,
    /// its bus
    bus: Option<String>,
    /// the module it is in; none if it is built in
    module: Option<String>,
    /// what asks it whether it is for a device
    #[hidden]
    probe: String,
    /// names of its devices
    devices: Result<String>,
}

impl Dcmd for Drivers {
    const NAME: &'static str = "drivers";
    const ROWS: &'static [&'static engine::Schema] = &[DriverRow::SCHEMA];
    const PASSES: &'static str = "struct device_driver";

    fn run(&self, cx: &Cx<'_>, at: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        let names = device::names(cx)?;
        let mut show = |at: u64| {
            let driver: Driver = cx.view(at)?;
            let mut devices = Vec::new();
            let walked = driver.devices(cx, &mut |at| {
                devices.push(cx.view::<Device>(at)?.name(cx)?);
                Ok(())
            });
            let module = |at: u64| cx.view::<walkers::module::Module>(at).ok().map(|m| m.name);
            out.row(DriverRow {
                addr: cx.object("device_driver", at),
                name: driver.name(cx),
                bus: names.get(&driver.bus).cloned(),
                module: (driver.owner != 0).then(|| module(driver.owner)).flatten(),
                probe: cx.sym(driver.probe),
                devices: walked.map(|()| devices.join(" ")),
            })
        };
        match at {
            Some(one) if is(cx, at, "subsys_private") => cx.view::<Subsystem>(one.addr)?.drivers(cx, &mut show),
            Some(one) => show(one.addr),
            None => device::buses(cx, &mut |bus| cx.view::<Subsystem>(bus)?.drivers(cx, &mut show)),
        }
    }
}

/// Show PCI devices, as `lspci -n` does.
#[derive(Args)]
pub struct PciDevices {}

/// A PCI device.
#[derive(Row)]
struct PciRow {
    /// address of its struct pci_dev
    addr: Object,
    /// domain, bus, device and function
    #[heading("BDF")]
    name: Result<String>,
    /// base class, subclass, interface
    class: Hex,
    /// who made it
    vendor: Hex,
    /// what it is
    device: Hex,
    /// number of its interrupt
    irq: u32,
    /// its driver
    driver: Option<Result<String>>,
}

impl Dcmd for PciDevices {
    const NAME: &'static str = "pci";
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[PciRow::SCHEMA];
    const PASSES: &'static str = "struct pci_dev";

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        device::pci(cx, &mut |pci: Pci, device: Device| {
            out.row(PciRow {
                addr: cx.object("pci_dev", pci.addr),
                name: device.name(cx),
                class: Hex(pci.class.into()),
                vendor: Hex(pci.vendor.into()),
                device: Hex(pci.device.into()),
                irq: pci.irq,
                driver: driver_name(cx, device.driver),
            })
        })
    }
}

/// Show who has which major numbers of devices' files, as /proc/devices does.
#[derive(Args)]
pub struct Chrdevs {}

/// A range of numbers.
#[derive(Row)]
struct NumbersRow {
    /// address of its struct char_device_struct or blk_major_name
    addr: Object,
    /// char or block
    kind: &'static str,
    /// the major number
    major: u32,
    /// the first minor number of a character device, and the last
    minors: Option<String>,
    /// who has them
    name: String,
    /// address of the struct cdev
    cdev: Option<Addr>,
    /// what its files do
    ops: Option<String>,
}

impl Dcmd for Chrdevs {
    const NAME: &'static str = "chrdevs";
    const ALIASES: &'static [&'static str] = &["dev"];
    const ADDRESS: Address = Address::None;
    const ROWS: &'static [&'static engine::Schema] = &[NumbersRow::SCHEMA];

    fn run(&self, cx: &Cx<'_>, _: Option<Object>, out: &mut Out<'_>) -> Result<()> {
        device::numbers(cx, &mut |one: Numbers| {
            let ops = || cx.u64(one.cdev.wrapping_add(cx.offset("cdev", "ops").ok()?)).ok().map(|ops| cx.sym(ops));
            out.row(NumbersRow {
                addr: cx.object(if one.block { "blk_major_name" } else { "char_device_struct" }, one.addr),
                kind: if one.block { "block" } else { "char" },
                major: one.major,
                minors: one.minors.map(|(first, count)| format!("{first}-{}", i64::from(first) + i64::from(count) - 1)),
                name: one.name,
                cdev: (one.cdev != 0).then_some(Addr(one.cdev)),
                ops: (one.cdev != 0).then(ops).flatten(),
            })
        })
    }
}

/// The dcmds of this file.
pub static DCMDS: &[DcmdEntry] = &[
    DcmdEntry::of::<Devices>(),
    DcmdEntry::of::<Buses>(),
    DcmdEntry::of::<Drivers>(),
    DcmdEntry::of::<PciDevices>(),
    DcmdEntry::of::<Chrdevs>(),
];
