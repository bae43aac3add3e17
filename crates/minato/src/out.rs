//! Standard output, whose reader may be gone: `minato ps | head -1`.

use std::io;

use anyhow::Error;

/// What a program that dies of SIGPIPE ends with in a shell.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// Whether nobody reads the output any more: no failure of the command's.
pub(crate) fn is_reader_gone(error: &Error) -> bool {
    error.chain().any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Prints a line, as `println!` does, but fails where that panics.
macro_rules! say {
    ($($word:tt)*) => {
        ::std::io::Write::write_fmt(
            &mut ::std::io::stdout().lock(),
            format_args!("{}\n", format_args!($($word)*)),
        )
    };
}
pub(crate) use say;
