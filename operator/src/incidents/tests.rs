use std::time::Instant;

use tokio::time::timeout;

use super::keeper::KEEP_LIMIT;
use super::testing::{alert, happened, mark};
use super::*;
use crate::happening::What;

/// An incidents' shell that runs in a folder of its own.
struct Shell {
    dir: tempfile::TempDir,
    incidents: Arc<Incidents>,
    news: News,
    shutdown: Shutdown,
}

impl Shell {
    fn open(dir: tempfile::TempDir) -> Self {
        let messenger = Messenger::open(&crate::config::Notify::default(), "n1").unwrap();
        let incidents = Incidents::open(dir.path(), &Config::default(), messenger).unwrap();
        Self { dir, incidents, news: News::default(), shutdown: Shutdown::new() }
    }

    fn new() -> Self {
        let shell = Self::open(tempfile::tempdir().unwrap());
        shell.incidents.run(&shell.news, &shell.shutdown);
        shell
    }

    fn file(&self, no: u64) -> PathBuf {
        self.dir.path().join(format!("incidents/{no:04}.jsonl"))
    }

    /// Raised, and written.
    async fn raise(&self, key: &str) -> IncidentView {
        let mut changes = self.incidents.changes();
        self.news.tell(happened(clock::unix_ms(), What::AlertRaised(alert(key, Severity::High))));
        let view = timeout(Duration::from_secs(10), changes.recv()).await.unwrap().unwrap();
        assert_eq!(self.incidents.until_kept(view.no).await, None);
        (*view).clone()
    }

    async fn end(self) -> tempfile::TempDir {
        assert!(self.shutdown.finish(Duration::from_secs(10)).await);
        self.dir
    }
}

fn note(text: &str) -> Word {
    Word::Note { text: text.to_owned() }
}

#[tokio::test]
async fn an_incident_survives_the_process() {
    let shell = Shell::new();
    shell.news.tell(happened(clock::unix_ms(), mark("deploy", "v2")));
    let no = shell.raise("store/down").await.no;
    let (said, not_kept) = shell.incidents.say(no, "mina", note("the disk is full")).await.unwrap();
    assert_eq!((said.entries, not_kept), (3, None));
    shell.news.tell(happened(clock::unix_ms(), mark("deploy", "v3")));
    let before = {
        let mut changes = shell.incidents.changes();
        let mut whole = shell.incidents.show(no).await.unwrap();
        while whole.entries < 4 {
            timeout(Duration::from_secs(10), changes.recv()).await.unwrap().unwrap();
            whole = shell.incidents.show(no).await.unwrap();
        }
        whole
    };
    let dir = shell.end().await;
    let again = Shell::open(dir);
    assert_eq!(again.incidents.show(no).await.unwrap(), before);
    assert_eq!(again.incidents.open_ones().len(), 1);
}

#[tokio::test]
async fn what_is_over_is_read_from_the_disk_when_it_is_asked_for() {
    let shell = Shell::new();
    let no = shell.raise("store/down").await.no;
    let to = |to| Word::State { to, reason: "so".to_owned() };
    shell.incidents.say(no, "mina", to(IncidentState::Resolved)).await.unwrap();
    shell.incidents.say(no, "mina", to(IncidentState::Reviewed)).await.unwrap();
    let again = Shell::open(shell.end().await);
    assert!(again.incidents.ledger.lock().is_cold(no));
    assert_eq!(again.incidents.show(no).await.unwrap().timeline.len(), 3);
    again.incidents.run(&again.news, &again.shutdown);
    again.incidents.check(no, &note("later")).await.unwrap();
    let (said, not_kept) = again.incidents.say(no, "jo", note("later")).await.unwrap();
    assert_eq!((said.timeline.len(), not_kept), (4, None));
    let report = again.incidents.export(no, "n1").await.unwrap();
    assert!(report.contains("| jo | note | later |"), "{report}");
    std::fs::remove_file(again.file(no)).unwrap();
    assert!(matches!(again.incidents.show(99).await, Err(ActError::Word(WordError::Absent(99)))));
    again.end().await;
}

#[tokio::test]
async fn what_cannot_be_written_is_said_and_written_later() {
    let shell = Shell::new();
    let no = shell.raise("store/down").await.no;
    let kept = std::fs::read(shell.file(no)).unwrap();
    // A folder in place of the file: it cannot be opened for writing, by nobody.
    std::fs::remove_file(shell.file(no)).unwrap();
    std::fs::create_dir(shell.file(no)).unwrap();
    let (said, not_kept) = shell.incidents.say(no, "mina", note("one")).await.unwrap();
    assert!(not_kept.is_some() && said.entries == 2);
    std::fs::remove_dir(shell.file(no)).unwrap();
    std::fs::write(shell.file(no), kept).unwrap();
    shell.incidents.wake.notify_one();
    let (_, not_kept) = shell.incidents.say(no, "mina", note("two")).await.unwrap();
    assert_eq!(not_kept, None);
    let again = Shell::open(shell.end().await);
    assert_eq!(again.incidents.show(no).await.unwrap().timeline.len(), 3);
}

#[tokio::test]
async fn people_are_told_before_the_disk_answers() {
    // Nothing runs that would write: what is said is shown all the same, and that it is not kept is said.
    let shell = Shell::open(tempfile::tempdir().unwrap());
    shell.incidents.on_happening(&happened(1, What::AlertRaised(alert("store/down", Severity::Low))));
    assert_eq!(shell.incidents.list().len(), 1);
    let begun = Instant::now();
    tokio::time::pause();
    let (_, not_kept) = shell.incidents.say(1, "mina", note("x")).await.unwrap();
    assert_eq!(not_kept.as_deref(), Some("the disk has not answered yet"));
    assert!(begun.elapsed() < KEEP_LIMIT);
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_an_error_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("incidents"), "in the way").unwrap();
    let messenger = Messenger::open(&crate::config::Notify::default(), "n1").unwrap();
    let error = Incidents::open(dir.path(), &Config::default(), messenger).unwrap_err().to_string();
    assert!(error.contains("see to the folder"), "{error}");
}

#[tokio::test]
async fn a_burst_is_shown_once_for_each_incident() {
    let (tell, mut changes) = broadcast::channel(4);
    for (no, entries) in [(1, 1), (2, 1), (1, 2), (1, 3), (2, 2)] {
        let mut view = Incident::unknown(no, 0).view().clone();
        view.entries = entries;
        tell.send(Arc::new(view)).unwrap();
    }
    let gathered = gather(&mut changes).await.unwrap();
    let shown: Vec<(u64, usize)> = gathered.values().map(|view| (view.no, view.entries)).collect();
    assert_eq!(shown, [(1, 3), (2, 2)]);
    drop(tell);
    assert!(gather(&mut changes).await.is_none());
}
