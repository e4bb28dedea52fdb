//! What records mean: the event types of `ftrace_events`, and the fields of each.

use crate::list;
use engine::ViewEntry;
use engine::{Error, Result, Session, View};
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// `struct trace_event_call` (include/linux/trace_events.h).
#[derive(View)]
#[ctype("trace_event_call")]
struct Call {
    #[addr]
    addr: u64,
    class: u64,
    /// or, by `flags`, a `struct tracepoint`
    name: u64,
    #[field("event.type")]
    kind: u32,
    /// of a syscall's events: its `struct syscall_metadata`
    data: u64,
    flags: u32,
}

/// `struct trace_event_class`.
#[derive(View)]
#[ctype("trace_event_class")]
struct Class {
    system: engine::Result<String>,
    get_fields: u64,
}

/// `struct ftrace_event_field` (kernel/trace/trace.h).
#[derive(View)]
#[ctype("ftrace_event_field")]
struct Field {
    name: String,
    #[field("type")]
    ctype: String,
    offset: u32,
    size: u32,
    is_signed: bool,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventField {
    /// name
    pub name: String,
    /// C type, as the event's declaration spells it
    pub ctype: String,
    /// from the start of the record
    pub offset: usize,
    /// bytes
    pub size: usize,
    /// whether an integer is signed
    pub signed: bool,
}

impl EventField {
    /// Whether the field only tells where its bytes are.
    pub fn is_dynamic(&self) -> bool {
        self.ctype.starts_with("__data_loc") || self.ctype.starts_with("__rel_loc")
    }
}

/// A type of event.
#[derive(Debug)]
pub struct EventType {
    /// its number, as records have it
    pub id: u16,
    /// `kmalloc`
    pub name: String,
    /// `kmem`
    pub system: String,
    /// address of its `struct trace_event_call`
    pub addr: u64,
    head: u64,
    fields: OnceLock<Vec<EventField>>,
}

impl EventType {
    /// Its own fields, without those that all events have, in the order of their declaration. Read when first asked
    /// for; empty, with a note, if they cannot be read.
    pub fn fields(&self, session: &Session) -> &[EventField] {
        self.fields.get_or_init(|| {
            fields(session, self.head).unwrap_or_else(|e| {
                session.notes.add(self.addr, format!("fields of a trace event: {}", e.kind()));
                Vec::new()
            })
        })
    }

    /// A field by its name.
    pub fn field(&self, session: &Session, name: &str) -> Option<&EventField> {
        self.fields(session).iter().find(|f| f.name == name)
    }
}

fn fields(session: &Session, head: u64) -> Result<Vec<EventField>> {
    let mut found = Vec::new();
    list::list(session, head, session.offset("ftrace_event_field", "link")?, &mut |addr| {
        let f: Field = session.view(addr)?;
        found.push(EventField {
            name: f.name,
            ctype: f.ctype,
            offset: f.offset as usize,
            size: f.size as usize,
            signed: f.is_signed,
        });
        Ok(())
    })?;
    // the kernel adds each one in front of the last
    found.reverse();
    Ok(found)
}

/// Every event type of the kernel and its modules.
#[derive(Debug)]
pub struct EventTypes(HashMap<u16, EventType>);

impl EventTypes {
    /// The session's.
    pub fn of(session: &Session) -> Result<Arc<EventTypes>> {
        session.once(|| EventTypes::read(session))
    }

    fn read(session: &Session) -> Result<EventTypes> {
        let head = session
            .kernel_symbol("ftrace_events")
            .ok_or_else(|| Error::Unavailable("this kernel has no trace events (CONFIG_EVENT_TRACING)".into()))?;
        // the flag's bit has moved more than once
        let tracepoint = session.enumerator("TRACE_EVENT_FL_TRACEPOINT").unwrap_or(0) as u32;
        let mut map = HashMap::new();
        list::list(session, head, session.offset("trace_event_call", "list")?, &mut |addr| {
            match read_type(session, addr, tracepoint) {
                Ok(Some(found)) => drop(map.insert(found.id, found)),
                Ok(None) => {}
                Err(e) if e.is_control() => return Err(e),
                Err(e) => session.notes.add(addr, format!("trace event type: {}", e.kind())),
            }
            Ok(())
        })?;
        Ok(EventTypes(map))
    }

    /// The type of that number.
    pub fn get(&self, id: u16) -> Option<&EventType> {
        self.0.get(&id)
    }

    /// A type by the names of its system and its own.
    pub fn find(&self, system: &str, name: &str) -> Option<&EventType> {
        self.0.values().find(|t| t.system == system && t.name == name)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &EventType> {
        self.0.values()
    }
}

fn read_type(session: &Session, addr: u64, tracepoint: u32) -> Result<Option<EventType>> {
    let call: Call = session.view(addr)?;
    // numbers are given out below 2^16, and 0 stands for none yet
    let Ok(id @ 1..) = u16::try_from(call.kind) else { return Ok(None) };
    let class: Class = session.view(call.class)?;
    let name = if call.flags & tracepoint != 0 {
        session.u64(call.name.wrapping_add(session.offset("tracepoint", "name")?))?
    } else {
        call.name
    };
    // entering a syscall has fields of its own, behind the metadata of that syscall
    let of_syscall =
        class.get_fields != 0 && session.kernel_symbol("syscall_get_enter_fields") == Some(class.get_fields);
    let head = if of_syscall {
        call.data.wrapping_add(session.offset("syscall_metadata", "enter_fields")?)
    } else {
        call.class.wrapping_add(session.offset("trace_event_class", "fields")?)
    };
    Ok(Some(EventType {
        id,
        name: session.cstr(name, 256)?,
        system: class.system?,
        addr: call.addr,
        head,
        fields: OnceLock::new(),
    }))
}

/// The views of this file, to be held against every kernel.
pub static VIEWS: &[ViewEntry] = &[ViewEntry::of::<Call>(), ViewEntry::of::<Class>(), ViewEntry::of::<Field>()];
