use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use super::*;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::time::Instant;
use vouchsafe_model::id::DeviceId;
use vouchsafe_model::subject::DeviceFacts;
use vouchsafe_runtime::link::{
    Credential, GatewayCertificates, KnownSubject, LinkError, News, NoSubject, RedeemedCode, Snapshot,
};
use vouchsafe_runtime::task::Drained;
use vouchsafe_wire::audit::{Kind, Record};
use vouchsafe_wire::spool::{Frame, read_frame};

/// A recorder over its own directory, whose writer can be made to fail.
struct Bench {
    _root: tempfile::TempDir,
    dir: PathBuf,
    recorder: Recorder,
}

impl Bench {
    /// The writer does not run yet.
    fn new(places: usize, most_notes: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("spool");
        let mut spool = Spool::open(&dir, 0).unwrap();
        // Each append begins a segment, which fails while the directory is away.
        spool.set_segment_bytes(1);
        let recorder = Recorder::new(spool, "gtw_x".into(), Queue::new(places, most_notes));
        Self { _root: root, dir, recorder }
    }

    fn write(&self) {
        let pen = Arc::clone(&self.recorder.pen);
        tokio::task::spawn_blocking(move || pen.run());
    }

    fn take_directory_away(&self) {
        fs::rename(&self.dir, self.dir.with_extension("away")).unwrap();
    }

    fn bring_directory_back(&self) {
        fs::rename(self.dir.with_extension("away"), &self.dir).unwrap();
    }

    /// Records and waits.
    async fn record(&self, words: &str, until: Until) -> Result<(), NotRecorded> {
        self.recorder.keep(record(words), until).await
    }

    fn note(&self, words: &str) {
        self.recorder.note(record(words));
    }

    /// Ends the recorder and gives what is on disk.
    async fn finish(self) -> Vec<Record> {
        let finisher = self.recorder.finisher();
        drop(self.recorder);
        finisher.finish().await;
        on_disk(&self.dir)
    }
}

fn on_disk(dir: &Path) -> Vec<Record> {
    let mut reader = SpoolReader::open(dir).unwrap();
    let next_seq = Spool::open(dir, 0).unwrap().next_seq();
    let mut all = Vec::new();
    loop {
        let batch = reader.next_batch(next_seq).unwrap();
        if batch.count == 0 {
            return all;
        }
        all.extend(records(&batch));
    }
}

fn records(batch: &RecordBatch) -> Vec<Record> {
    let (mut rest, mut found) = (&batch.frames[..], Vec::new());
    while let Frame::Whole { payload, length } = read_frame(rest) {
        found.push(Record::from_canonical(payload).unwrap());
        rest = &rest[length..];
    }
    assert!(found.iter().map(|record| record.seq).eq(batch.first_seq..batch.first_seq + batch.count));
    found
}

fn record(words: &str) -> Draft {
    let mut record = Record::new(Kind::Decision, 1);
    record.words = Some(words.into());
    Draft::of(&record, "gtw_x").unwrap()
}

fn words(records: &[Record]) -> Vec<&str> {
    let of = |record: &'_ Record| record.kind == Kind::Lifecycle;
    records.iter().map(|r| if of(r) { "(lifecycle)" } else { r.words.as_deref().unwrap() }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_requests_are_refused_at_once_until_a_write_succeeds() {
    let bench = Bench::new(100, 100);
    bench.write();
    bench.record("before", Until::Durable).await.unwrap();
    bench.take_directory_away();
    assert_eq!(bench.record("first failure", Until::Written).await, Err(NotRecorded));
    // Refused without the writer: not even a receipt is given.
    assert!(bench.recorder.hand_over(record("refused"), Until::Written).await.is_err());
    bench.note("ended meanwhile");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(bench.recorder.hand_over(record("refused too"), Until::Written).await.is_err());
    bench.bring_directory_back();
    let begun = Instant::now();
    while bench.record("after", Until::Durable).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it works again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let found = bench.finish().await;
    assert_eq!(words(&found), ["before", "ended meanwhile", "(lifecycle)", "after"]);
    assert_eq!(found[2].action.as_deref(), Some("audit.interrupted"));
    assert!(found[2].duration_us.unwrap() >= 200_000);
    assert!(found[2].detail.as_deref().unwrap().contains(" 0 records of ended flows are lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_records_are_kept_and_the_lost_ones_are_counted() {
    let bench = Bench::new(100, 10);
    bench.write();
    bench.record("before", Until::Written).await.unwrap();
    bench.take_directory_away();
    assert!(bench.record("fails", Until::Written).await.is_err());
    for n in 0..15 {
        bench.note(&n.to_string());
    }
    bench.bring_directory_back();
    let found = bench.finish().await;
    // Whether the failure is told before or behind what was kept depends on which the writer comes to first.
    let (report, kept): (Vec<Record>, Vec<Record>) =
        found.into_iter().partition(|record| record.kind == Kind::Lifecycle);
    assert_eq!(words(&kept), ["before", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(report.len(), 1);
    let detail = report[0].detail.as_deref().unwrap();
    assert!(detail.contains(": 1 requests were denied for it, 5 records of ended flows are lost"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_denied_for_waiting_too_long_has_no_record() {
    let bench = Bench::new(100, 100);
    // Its client hung up: it may have gone upstream, so its record stays.
    drop(bench.recorder.hand_over(record("gone"), Until::Written).await.unwrap());
    assert_eq!(bench.record("denied", Until::Durable).await, Err(NotRecorded));
    let waiting = bench.recorder.hand_over(record("patient"), Until::Durable).await.unwrap();
    bench.write();
    assert_eq!(waiting.wait().await, Ok(()));
    assert_eq!(words(&bench.finish().await), ["gone", "patient"]);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_record_is_being_written_hears_how_that_went() {
    let bench = Bench::new(100, 100);
    let receipt = bench.recorder.hand_over(record("slow"), Until::Written).await.unwrap();
    let mut group = Vec::new();
    bench.recorder.handle.0.take(&mut group, 1);
    let waiter = group.pop().unwrap().waiter.unwrap();
    assert!(waiter.claim.take());
    let later = async {
        tokio::time::sleep(AUDIT_WAIT + Duration::from_secs(1)).await;
        waiter.done.send(()).unwrap();
    };
    let (waited, ()) = tokio::join!(receipt.wait(), later);
    assert_eq!(waited, Ok(()));
}

#[tokio::test]
async fn notes_find_a_place_in_a_full_queue_and_are_on_disk_after_finish() {
    let bench = Bench::new(4, 100_000);
    let mut receipts = Vec::new();
    for n in 0..4 {
        receipts.push(bench.recorder.hand_over(record(&format!("allow {n}")), Until::Written).await.unwrap());
    }
    for n in 0..2_000 {
        bench.note(&format!("end {n}"));
    }
    bench.write();
    let found = bench.finish().await;
    let expected: Vec<String> =
        (0..4).map(|n| format!("allow {n}")).chain((0..2_000).map(|n| format!("end {n}"))).collect();
    assert_eq!(words(&found), expected);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_holds_requests_back_and_then_refuses_them() {
    let bench = Bench::new(1, 100);
    let _waiting = bench.recorder.hand_over(record("one"), Until::Written).await.unwrap();
    let begun = Instant::now();
    assert!(bench.recorder.hand_over(record("two"), Until::Written).await.is_err());
    assert!(begun.elapsed() >= AUDIT_WAIT);
}

#[tokio::test]
async fn finish_closes_the_recorder_even_while_a_handle_is_left() {
    let bench = Bench::new(100, 100);
    bench.write();
    bench.note("last");
    let left = bench.recorder.clone();
    assert_eq!(words(&bench.finish().await), ["last"]);
    left.note(record("too late"));
    assert!(left.keep(record("too late"), Until::Written).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_process_does_not_hang_on_a_broken_disk() {
    let bench = Bench::new(100, 100);
    bench.write();
    bench.record("before", Until::Written).await.unwrap();
    bench.take_directory_away();
    bench.note("lost");
    let begun = Instant::now();
    bench.recorder.finisher().finish().await;
    assert!(begun.elapsed() < FINISH_WAIT);
    bench.bring_directory_back();
    assert_eq!(words(&bench.finish().await), ["before"]);
}

/// A controller that takes records and knows nothing else.
#[derive(Default)]
struct Taker(Mutex<Vec<Record>>);

impl ControlLink for Taker {
    fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        panic!("only records come here")
    }

    fn certificates(&self) -> watch::Receiver<Arc<GatewayCertificates>> {
        panic!("only records come here")
    }

    fn news(&self) -> broadcast::Receiver<News> {
        panic!("only records come here")
    }

    fn subject(&self, _: Credential) -> BoxFuture<'_, Result<Result<KnownSubject, NoSubject>, LinkError>> {
        panic!("only records come here")
    }

    fn device(&self, _: DeviceId) -> BoxFuture<'_, Result<Option<DeviceFacts>, LinkError>> {
        panic!("only records come here")
    }

    fn redeem(
        &self,
        _: String,
        _: String,
        _: Option<DeviceId>,
        _: IpAddr,
    ) -> BoxFuture<'_, Result<Option<RedeemedCode>, LinkError>> {
        panic!("only records come here")
    }

    fn deliver(&self, _: GatewayId, batch: RecordBatch) -> BoxFuture<'_, Result<u64, LinkError>> {
        let mut all = self.0.lock();
        all.extend(records(&batch));
        let last = all.last().map_or(0, |record| record.seq);
        Box::pin(std::future::ready(Ok(last)))
    }
}

/// Records its end like a flow does.
struct Ends(Recorder);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.note(record("end"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cut_ends_is_recorded_and_what_was_before_is_delivered() {
    const FLOWS: usize = 500;
    let (dir, tasks, link) = (tempfile::tempdir().unwrap(), TaskGroup::new(), Arc::new(Taker::default()));
    let gateway = GatewayId::from_random([7; 16]);
    let recorder = Recorder::start(dir.path(), gateway, 0, Arc::clone(&link) as Arc<dyn ControlLink>, &tasks).unwrap();
    let finisher = recorder.finisher();
    for _ in 0..FLOWS {
        recorder.keep(record("allow"), Until::Written).await.unwrap();
        let ends = Ends(recorder.clone());
        tasks.spawn("flow", async move {
            let _ends = ends;
            std::future::pending().await
        });
    }
    let begun = Instant::now();
    while link.0.lock().len() < FLOWS {
        assert!(begun.elapsed() < Duration::from_secs(10), "the records are delivered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(recorder);
    assert_eq!(tasks.shut_down(Duration::ZERO).await, Drained::ByCutting);
    finisher.finish().await;
    assert_eq!(words(&on_disk(dir.path())), [vec!["allow"; FLOWS], vec!["end"; FLOWS]].concat());
    let delivered = link.0.lock();
    assert!(delivered.iter().map(|record| record.seq).eq(1..=delivered.len() as u64));
}

/// Requests write by themselves: what is written is on disk when they go on, and what is durable
/// was synced by the thread.
#[tokio::test(flavor = "multi_thread")]
async fn i7_what_was_kept_is_on_disk_when_the_request_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 0).unwrap();
    let (recorder, writer) = Recorder::launch(spool, "gtw_x".into(), Queue::new(100, 100));
    let mut requests = tokio::task::JoinSet::new();
    for client in 0..32 {
        let (recorder, dir) = (recorder.clone(), dir.path().to_owned());
        requests.spawn(async move {
            for number in 0..20 {
                let text = format!("{client}/{number}");
                let until = if number % 4 == 0 { Until::Durable } else { Until::Written };
                recorder.keep(record(&text), until).await.unwrap();
                recorder.note(record(&format!("end {text}")));
                if number == 19 {
                    let bytes = fs::read(dir.join(format!("{:020}.spool", 1))).unwrap();
                    let frame = format!("\"{text}\"");
                    assert!(bytes.windows(frame.len()).any(|window| window == frame.as_bytes()));
                }
            }
        });
    }
    while let Some(done) = requests.join_next().await {
        done.unwrap();
    }
    let finisher = recorder.finisher();
    drop(recorder);
    finisher.finish().await;
    writer.await.unwrap();
    assert_eq!(on_disk(dir.path()).len(), 32 * 20 * 2);
}

/// A request whose client hangs up while it leads a group writes it all the same.
#[tokio::test]
async fn a_leader_that_goes_away_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), 0).unwrap();
    let (recorder, _writer) = Recorder::launch(spool, "gtw_x".into(), Queue::new(100, 100));
    recorder.keep(record("first"), Until::Durable).await.unwrap();
    let mut leader = Box::pin(recorder.keep(record("leads"), Until::Written));
    // The thread may be faster than either; whoever writes, nobody waits in vain.
    let _ = futures_util::poll!(&mut leader);
    let mut follower = Box::pin(recorder.keep(record("follows"), Until::Written));
    match futures_util::poll!(&mut follower) {
        std::task::Poll::Ready(kept) => kept.unwrap(),
        std::task::Poll::Pending => {
            drop(leader);
            follower.await.unwrap();
        }
    }
    recorder.finisher().finish().await;
    assert_eq!(words(&on_disk(dir.path())), ["first", "leads", "follows"]);
}
