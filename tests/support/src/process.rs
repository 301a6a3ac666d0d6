//! Child processes that cannot outlive the test binary.
//!
//! Every child is started by `setpriv --pdeathsig KILL` from one thread that lives as long as the process does: the
//! kernel sends that signal when the *thread* that started the child ends, and a test's thread ends with its test.
//! Nothing else in this crate may spawn a process that is meant to stay.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, kill_process};

use crate::eventually::try_eventually;

pub use rustix::process::Signal;

type Order = (Command, Sender<io::Result<Child>>);

/// A running child, killed on drop.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    child: Mutex<Child>,
}

/// Closes what a child inherits beyond its standard streams, then becomes the program. librdkafka's pipes are inherited;
/// a child with the harness's descriptors would count them as its own, and keep them open.
const CLOSE_INHERITED: &str = r#"
for fd in /proc/self/fd/*; do
    fd="${fd##*/}"
    if ((fd > 2)); then exec {fd}>&-; fi
done
unset PWD OLDPWD SHLVL
exec "$@""#;

/// Begins the command line of a child that ends with the thread that starts it; see [`Process::start`].
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "bash", "-c", CLOSE_INHERITED, "bash"]);
    command.arg(program.as_ref());
    command
}

impl Process {
    /// Starts a command made by [`command`] in a process group of its own, so that the terminal's Ctrl-C misses it.
    pub(crate) fn start(mut command: Command) -> io::Result<Self> {
        command.process_group(0);
        let (answer, answered) = channel();
        spawner().send((command, answer)).expect("the spawner lives as long as the process");
        let child = answered.recv().expect("the spawner answers every order")?;
        Ok(Self { pid: child.id(), child: Mutex::new(child) })
    }

    /// The child's process id; it stays the same over `setpriv`'s exec.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; does nothing when the child has ended.
    pub fn signal(&self, signal: Signal) {
        // The lock keeps another thread from reaping the child between the look and the signal, which could then hit a
        // stranger that got the same process id.
        let mut child = self.child.lock();
        if matches!(child.try_wait(), Ok(None)) {
            let pid = Pid::from_child(&child);
            // It may end by itself meanwhile: then there is nobody left to signal.
            kill_process(pid, signal).ok();
        }
    }

    /// Kills the child and waits until it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        drop(self.child.lock().wait());
    }

    /// How the child ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().try_wait().ok().flatten()
    }

    /// Waits up to `bound` for the child's end.
    pub fn wait_exit(&self, bound: Duration) -> Option<ExitStatus> {
        try_eventually(bound, || self.exit_status())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawner() -> &'static Sender<Order> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    drop(answer.send(command.spawn()));
                }
            })
            .expect("a thread can be started");
        orders
    })
}
