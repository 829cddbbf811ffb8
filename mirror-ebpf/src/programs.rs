//! What every program of the kernel half is made with.

/// A setting as user space left it; the plain initialiser would be folded into the program by the compiler.
#[macro_export]
macro_rules! setting {
    ($place:expr) => {
        // SAFETY: a reference to a static is valid to read.
        unsafe { core::ptr::read_volatile(&raw const $place) }
    };
}

/// What an object needs beside its programs: a panic handler, which no program reaches, and the licence that
/// the kernel asks for before it lends GPL-only helpers.
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
