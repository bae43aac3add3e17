//! Clients that mean harm get nothing, and cost others nothing.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use minato_e2e::{Site, uptime, wait_for};
use serde_json::json;

/// Longest an honest call may take on a loaded machine.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A raw connection to Minato: what is written to it is sent as it is.
fn connection(site: &Site) -> Child {
    let script = "import socket,sys,threading\n\
        s=socket.create_connection(('127.0.0.1',4566))\n\
        def show():\n\
        \x20 while True:\n\
        \x20   got=s.recv(65536)\n\
        \x20   if not got: break\n\
        threading.Thread(target=show,daemon=True).start()\n\
        try:\n\
        \x20 while True:\n\
        \x20   some=sys.stdin.buffer.read1(65536)\n\
        \x20   if not some: break\n\
        \x20   s.sendall(some)\n\
        except OSError: pass\n";
    site.command("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn attacks() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    let head = "POST / HTTP/1.1\r\nHost: x\r\n\
                X-Amz-Target: AmazonEC2ContainerServiceV20141113.RunTask\r\n\
                Content-Type: application/x-amz-json-1.1\r\n";
    let huge_header = format!("{head}X-Huge: {}\r\n\r\n", "a".repeat(4 << 20));
    let huge_body = format!(
        "{head}Content-Length: {}\r\n\r\n{}",
        64 << 20,
        " ".repeat(4 << 20)
    );
    let deep = "[".repeat(500_000);
    let deep = format!("{head}Content-Length: {}\r\n\r\n{deep}", deep.len());
    let endless = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"
    );
    // Ends in the middle of its head, and waits.
    let slow = "GET / HT".to_owned();
    let texts = [huge_header, huge_body, deep, endless, slow];
    texts.into_iter().map(String::into_bytes).chain([noise]).collect()
}

#[test]
fn hostile_clients_do_not_stop_honest_ones() {
    let mut site = Site::start().unwrap();
    let pid = site.minato_pid();
    site.call("ecs", "list_clusters", json!({})).unwrap();
    let mut connections = vec![];
    for _ in 0..3 {
        for attack in attacks() {
            let mut client = connection(&site);
            let mut pipe = client.stdin.take().unwrap();
            // The write ends with the attack's connection.
            let sending = std::thread::spawn(move || {
                let _ = pipe.write_all(&attack);
                pipe
            });
            connections.push((client, sending));
            let before = uptime();
            site.call("ecs", "list_clusters", json!({})).unwrap();
            let took = uptime() - before;
            assert!(took < ANSWER_MAX, "an honest call took {took:?}");
        }
    }
    for (mut client, sending) in connections {
        wait_for(Duration::from_millis(500), || {
            client.try_wait().ok().flatten()
        });
        let _ = client.kill();
        client.wait().unwrap();
        drop(sending.join().unwrap());
    }
    assert!(site.is_up(), "Minato ended: {}", site.log());
    assert_eq!(site.minato_pid(), pid);
    assert!(!site.log().contains("panicked"), "{}", site.log());
    site.call("ecs", "list_clusters", json!({})).unwrap();
    site.finish().unwrap();
}
