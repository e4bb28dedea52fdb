//! What boot loaders load, and the kernel in it: `bzImage` on x86, `Image` and the EFI zboot image on arm64.
//!
//! A bzImage holds a stripped vmlinux, packed; where, the boot protocol says (Documentation/arch/x86/boot.rst). A zboot
//! image (drivers/firmware/efi/libstub/zboot-header.S) holds an `Image`, packed. An `Image` is no ELF file: it is the
//! kernel's memory from `_text` on (Documentation/arch/arm64/booting.rst).

use bytes::Bytes;

use super::inflate::Codec;

/// Wrappings inside each other: a packed zboot image has two.
const MAX_LAYERS: usize = 4;

/// Bytes that tell what a file is.
const HEAD: usize = 0x400;

/// A file's contents without what they were wrapped in.
pub(super) struct Unwrapped {
    pub(super) data: Bytes,
    /// what was taken off, outermost first: `bzImage (zstd)`, `gzip`
    pub(super) layers: Vec<String>,
}

/// Takes off whole-file compression and boot loaders' wrappings.
pub(super) fn unwrap(data: Bytes) -> Result<Unwrapped, String> {
    let mut out = Unwrapped { data, layers: Vec::new() };
    for _ in 0..MAX_LAYERS {
        let (data, layer) = if let Some(payload) = payload(&out.data) {
            let (kind, payload) = payload.map_err(|why| format!("a damaged {why}"))?;
            let codec =
                Codec::sniff(payload).ok_or_else(|| format!("{kind} whose kernel is packed in an unknown way"))?;
            let data = codec.stream(payload).map_err(|why| format!("{kind}: the kernel in it: {why}"))?;
            (data, format!("{kind} ({})", codec.name()))
        } else if let Some(codec) = Codec::sniff(&out.data) {
            (codec.whole_file(&out.data)?, codec.name().to_owned())
        } else {
            break;
        };
        out.data = data.into();
        out.layers.push(layer);
    }
    Ok(out)
}

/// The packed kernel in a bootable image, and what kind of image it is. `None` if this is none; an error if it is one
/// and says nonsense.
fn payload(data: &[u8]) -> Option<Result<(&'static str, &[u8]), String>> {
    let word = |at: usize| data.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b) as usize);
    let (kind, start, len) = if is_bzimage(data) {
        let version = data.get(0x206..)?.first_chunk().map(|b| u16::from_le_bytes(*b))?;
        if version < 0x208 {
            return Some(Err(format!("bzImage: boot protocol {version:#x} does not say where the kernel is")));
        }
        // of the real-mode code, without the boot sector; 0 means 4
        let sectors = data.get(0x1f1).map(|&n| if n == 0 { 4 } else { usize::from(n) })?;
        ("bzImage", (sectors + 1) * 512 + word(0x248)?, word(0x24c)?)
    } else if is_zboot(data) {
        ("zboot image", word(8)?, word(12)?)
    } else {
        return None;
    };
    let payload = start.checked_add(len).and_then(|end| data.get(start..end));
    Some(payload.map(|payload| (kind, payload)).ok_or_else(|| format!("{kind}: it ends before its kernel does")))
}

fn is_bzimage(data: &[u8]) -> bool {
    data.get(0x202..0x206) == Some(b"HdrS")
}

fn is_zboot(data: &[u8]) -> bool {
    data.starts_with(b"MZ") && data.get(4..8) == Some(b"zimg")
}

/// Whether this is an arm64 `Image`, unpacked.
pub(super) fn is_image(data: &[u8]) -> bool {
    data.get(56..60) == Some(b"ARM\x64")
}

/// Whether a file that begins like this is a kernel, however packed, and not a dump of one.
pub fn is_kernel(data: &[u8]) -> bool {
    let head = match Codec::sniff(data) {
        Some(codec) => codec.head(data, HEAD),
        None => data.get(..HEAD).unwrap_or(data).to_vec(),
    };
    // ET_EXEC or ET_DYN; a dump is ET_CORE
    let linked = head.starts_with(b"\x7fELF") && matches!(head.get(16..18), Some([2 | 3, 0]));
    linked || is_bzimage(&head) || is_zboot(&head) || is_image(&head)
}
