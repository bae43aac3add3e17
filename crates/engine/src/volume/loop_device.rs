//! Files as block devices.
//!
//! A device is set up to go by itself with its last user (autoclear), which
//! is the file system mounted from it: whoever unmounts it, and be it the end
//! of the machine, leaves no device behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::Path;

use super::VolumeError;

/// `LOOP_CTL_GET_FREE`, `linux/loop.h`.
const GET_FREE: libc::c_ulong = 0x4C82;
/// `LOOP_CONFIGURE`, `linux/loop.h`; since Linux 5.8.
const CONFIGURE: libc::c_ulong = 0x4C0A;
/// `LO_FLAGS_AUTOCLEAR`.
const AUTOCLEAR: u32 = 4;
/// Others may take a free device first.
const TRIES: usize = 64;

/// `struct loop_info64`, `linux/loop.h`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`, `linux/loop.h`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232);
const _: () = assert!(size_of::<Config>() == 304);

/// A device with a file behind it, for as long as this or a mount holds it.
#[derive(Debug)]
pub(super) struct LoopDevice {
    number: i32,
    _open: File,
}

impl LoopDevice {
    pub(super) fn path(&self) -> String {
        format!("/dev/loop{}", self.number)
    }
}

/// The device of a file: the one it has, or else a new one.
pub(super) fn attach(file: &Path) -> Result<LoopDevice, VolumeError> {
    let failed = |action| {
        let file = file.to_owned();
        move |source| VolumeError::Loop { action, file, source }
    };
    let options = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options
    };
    // An unmount that was put off (somebody looks at the place) keeps it.
    if let Some(number) = find(file).map_err(failed("look for"))? {
        let open = options().open(format!("/dev/loop{number}"));
        let open = open.map_err(failed("open"))?;
        return Ok(LoopDevice { number, _open: open });
    }
    let backing = options().open(file).map_err(failed("open the file of"))?;
    let control = options().open("/dev/loop-control");
    let control = control.map_err(failed("ask for"))?;
    for _ in 0..TRIES {
        let number = free(&control).map_err(failed("get"))?;
        let device = options().open(format!("/dev/loop{number}"));
        let device = device.map_err(failed("open"))?;
        match configure(&device, backing.as_raw_fd()) {
            Ok(()) => return Ok(LoopDevice { number, _open: device }),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
            Err(error) => return Err(failed("set up")(error)),
        }
    }
    let busy = io::Error::from(ErrorKind::ResourceBusy);
    Err(failed("get")(busy))
}

/// The number of the device that a file has, if it has one.
pub(super) fn find(file: &Path) -> io::Result<Option<i32>> {
    let wanted = fs::canonicalize(file)?;
    for entry in fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) =
            name.to_str().and_then(|name| name.strip_prefix("loop"))
        else {
            continue;
        };
        let behind = fs::read_to_string(entry.path().join("loop/backing_file"));
        // A device without a file has no such entry.
        let Ok(behind) = behind else { continue };
        if Path::new(behind.trim_end_matches('\n')) == wanted {
            return Ok(number.parse().ok());
        }
    }
    Ok(None)
}

fn free(control: &File) -> io::Result<i32> {
    // SAFETY: the request takes no argument and the descriptor is open.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE as _) };
    if number < 0 { Err(io::Error::last_os_error()) } else { Ok(number) }
}

fn configure(device: &File, backing: RawFd) -> io::Result<()> {
    let config = Config {
        fd: u32::try_from(backing).map_err(io::Error::other)?,
        block_size: 0,
        info: Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: the kernel reads one `struct loop_config`, which `config` is
    // (its size is checked above), and keeps no pointer to it.
    let done = unsafe {
        libc::ioctl(device.as_raw_fd(), CONFIGURE as _, &raw const config)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
