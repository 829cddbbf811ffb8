//! What the programs of the kernel half share.

pub mod headers;
pub mod packet;

/// Reads a setting as user space has set it; otherwise the compiler would insert the initial value.
#[macro_export]
macro_rules! setting {
    ($place:expr) => {
        // SAFETY: a reference to a static is valid to read.
        unsafe { core::ptr::read_volatile(&raw const $place) }
    };
}

/// What an object needs beside its programs: a panic handler, which no program reaches, and the licence that
/// the kernel requires for GPL-only helpers.
#[macro_export]
macro_rules! object_frame {
    () => {
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }

        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
    };
}
