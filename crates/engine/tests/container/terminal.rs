//! Commands in terminals of their own.

use minato_engine::container::{
    ContainerError, ExecSpec, Terminal, TerminalInput, TerminalSize,
};

use super::support::{Host, PATIENCE, id, is_possible, until, within};

const SIZE: TerminalSize = TerminalSize { cols: 90, rows: 20 };

fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        user: Some("0".into()),
        ..ExecSpec::default()
    }
}

async fn host() -> Option<Host> {
    if !is_possible() {
        return None;
    }
    let host = Host::new().await;
    let mut spec = host.spec("c1", "sleep 1000");
    spec.user = "app".into();
    // Reaps what others leave, which would be counted.
    spec.init = true;
    host.containers.create(&spec).await.unwrap();
    host.containers.start(&spec.id).await.unwrap();
    Some(host)
}

async fn open(host: &Host, spec: &ExecSpec) -> Terminal {
    let id = id("c1");
    let opened = host.containers.exec_terminal(&id, spec, SIZE);
    within(opened).await.unwrap()
}

/// All that is shown from now to the end, and the exit code.
async fn rest(terminal: Terminal) -> (Vec<u8>, i32) {
    let Terminal { input: _input, mut output, exit } = terminal;
    let mut shown = vec![];
    while let Some(piece) = within(output.recv()).await {
        shown.extend_from_slice(&piece);
    }
    (shown, within(exit).await.unwrap())
}

async fn types(terminal: &Terminal, text: &[u8]) {
    let bytes = TerminalInput::Bytes(text.to_vec().into());
    within(terminal.input.send(bytes)).await.unwrap();
}

/// Reads until the text is shown; answers all that was.
async fn shown(terminal: &mut Terminal, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let piece = within(terminal.output.recv()).await;
        let piece = piece.unwrap_or_else(|| panic!("only {all:?}"));
        all.push_str(&String::from_utf8_lossy(&piece));
    }
    all
}

#[tokio::test]
async fn a_command_has_a_terminal_of_the_container_s() {
    let Some(host) = host().await else { return };
    let script = "tty; stty size; id -u; echo $HOME; ls /proc/self/fd | wc -l; \
        printf '\\000\\377'; exit 7";
    let (output, code) = rest(open(&host, &shell(script)).await).await;
    let text = String::from_utf8_lossy(&output);
    assert!(text.starts_with("/dev/pts/0\r\n20 90\r\n0\r\n"), "{text}");
    assert!(output.ends_with(b"4\r\n\x00\xff"), "{text}");
    assert_eq!(code, 7);
    // The last of much output is not lost either.
    let much = "head -c 300000 /dev/zero; echo end";
    let (output, code) = rest(open(&host, &shell(much)).await).await;
    assert_eq!((output.len(), code), (300_005, 0));
    let missing = ExecSpec { args: vec!["nothing".into()], ..shell("") };
    let id = id("c1");
    let refused = host.containers.exec_terminal(&id, &missing, SIZE);
    assert!(matches!(
        within(refused).await,
        Err(ContainerError::Refused { errno: Some(libc::ENOENT), .. })
    ));
    host.close().await;
}

#[tokio::test]
async fn typing_resizing_and_signals_reach_the_command() {
    let Some(host) = host().await else { return };
    let sh = ExecSpec { args: vec!["/bin/sh".into()], ..shell("") };
    let mut terminal = open(&host, &sh).await;
    types(&terminal, b"stty -echo; echo rea''dy\n").await;
    shown(&mut terminal, "ready").await;
    let size = TerminalSize { cols: 132, rows: 43 };
    let resize = TerminalInput::Size(size);
    within(terminal.input.send(resize)).await.unwrap();
    types(&terminal, b"stty size\n").await;
    shown(&mut terminal, "43 132").await;
    // Who says so is in the foreground, and hears what is typed.
    types(&terminal, b"sh -c \"echo run''ning; exec sleep 1234\"\n").await;
    shown(&mut terminal, "running").await;
    types(&terminal, b"\x03").await;
    types(&terminal, b"echo $?\n").await;
    shown(&mut terminal, "130").await;
    // More than a terminal holds is typed while nobody reads.
    types(&terminal, b"stty raw; echo go; head -c 1000000 | md5sum\n").await;
    shown(&mut terminal, "go").await;
    types(&terminal, &vec![b'x'; 1_000_000]).await;
    shown(&mut terminal, "ec78dbd963d2fc01e51176ed4dec299e").await;
    host.close().await;
}

#[tokio::test]
async fn who_does_not_read_holds_the_command_up() {
    let Some(host) = host().await else { return };
    let script = "stty raw; dd if=/dev/zero bs=64k count=800 2>/dev/null; \
        echo over";
    let mut terminal = open(&host, &shell(script)).await;
    let output = &terminal.output;
    until("it is full", || output.len() == output.max_capacity()).await;
    let mut count = 0;
    while let Some(piece) = within(terminal.output.recv()).await {
        assert!(piece.len() <= 16 << 10);
        count += piece.len();
    }
    assert_eq!(count, 52_428_805);
    assert_eq!(within(terminal.exit).await, Ok(0));
    host.close().await;
}

#[tokio::test]
async fn all_of_a_session_ends_with_its_terminal() {
    let Some(host) = host().await else { return };
    // A job of its own process group that hears no hang-up.
    let script = "set -m; (trap '' HUP TERM; sleep 3000) & echo up; sleep 4000";
    let mut terminal = open(&host, &shell(script)).await;
    shown(&mut terminal, "up").await;
    let stats = || host.containers.stats(&id("c1")).unwrap();
    until("all run", || stats().pids >= 4).await;
    drop(terminal);
    until("only the first processes are left", || stats().pids == 2).await;
    // The container's end ends a terminal too.
    let mut terminal = open(&host, &shell("echo up; sleep 4000")).await;
    shown(&mut terminal, "up").await;
    host.containers.signal(&id("c1"), libc::SIGKILL).await.unwrap();
    assert_eq!(rest(terminal).await.1, 137);
    host.close().await;
}

#[tokio::test]
async fn a_false_multiplexer_is_not_used() {
    let Some(host) = host().await else { return };
    let root = ExecSpec {
        output_max_bytes: 100,
        ..shell("rm /dev/ptmx; ln -s /dev/zero /dev/ptmx")
    };
    let ran = host.containers.exec(&id("c1"), &root, PATIENCE).await.unwrap();
    assert_eq!(ran.exit_code, 0);
    let (output, _) = rest(open(&host, &shell("tty")).await).await;
    assert_eq!(output, b"/dev/pts/0\r\n");
    host.close().await;
}
