//! Owns the allocator's own memory, which librdkafka and the sidecar share.
//! Must never be asked often: each call looks at all that is free.

/// Gives free memory back to the system. glibc keeps what was freed for later, and after a burst that is most of the process.
pub fn give_back_free_memory() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it takes any number, locks what it looks at, and touches free memory alone (malloc_trim(3)).
        unsafe { malloc_trim(0) };
    }
}
