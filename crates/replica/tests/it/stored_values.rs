//! State machines that keep values in the store: they read the state as applied while pieces are being
//! written, and each reader sees the state as of one slot.

use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use synod_consensus::{Output, StateError, StateMachine, StateReader, StateView};
use synod_replica::{
    Applied, Applier, ApplyError, ChosenRun, Piece, Request, RequestKind, RequestSeq, Saver,
    Session,
};
use synod_storage::{MemoryDisk, StateStore, StorageError, StoreEntries, StoreReader, StoreView};
use synod_types::{Changes, Incarnation, NodeId, Slot, Values};

/// State machine that appends to texts. Each append stores a new version under `key version`. Memory
/// holds the newest version of each key, and the obsolete versions.
#[derive(Clone, Default)]
struct Texts {
    newest: BTreeMap<u8, u64>,
    obsolete: VecDeque<[u8; 9]>,
}

fn stored_key(key: u8, version: u64) -> [u8; 9] {
    let mut stored = [key; 9];
    stored[1..].copy_from_slice(&version.to_be_bytes());
    stored
}

impl StateMachine for Texts {
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        *self = Self::default();
        for entry in state.range(&[], None) {
            let stored: [u8; 9] = entry?.0[..].try_into().expect("a key of 9 bytes");
            let version = u64::from_be_bytes(stored[1..].try_into().expect("8 bytes"));
            self.set_newest(stored[0], version);
        }
        Ok(())
    }

    fn apply(
        &mut self,
        slot: Slot,
        command: &[u8],
        state: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        let (key, suffix) = (command[0], &command[1..]);
        let mut text = self.value(key, state)?;
        if suffix == b"fail" {
            return Err(StateError::Store("the disk is gone".into()));
        }
        text.extend_from_slice(suffix);
        output.changes.put(stored_key(key, slot.0).to_vec(), text.clone());
        output.emit(text.len());
        self.set_newest(key, slot.0);
        Ok(text.into())
    }

    fn reader(&self, state: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        Ok(Box::new(TextReader { texts: self.clone(), state: state.owned()? }))
    }

    fn maintain(
        &mut self,
        _: &dyn StateView,
        budget: usize,
        changes: &mut Changes,
    ) -> Result<bool, StateError> {
        let slice = budget.min(self.obsolete.len());
        self.obsolete.drain(..slice).for_each(|key| changes.delete(key.to_vec()));
        Ok(!self.obsolete.is_empty())
    }
}

impl Texts {
    fn set_newest(&mut self, key: u8, version: u64) {
        let before = self.newest.insert(key, version);
        self.obsolete.extend(before.map(|before| stored_key(key, before)));
    }

    fn value(&self, key: u8, state: &dyn StateView) -> Result<Vec<u8>, StateError> {
        let Some(version) = self.newest.get(&key) else { return Ok(Vec::new()) };
        let value = state.get(&stored_key(key, *version))?;
        Ok(value.expect("the newest version is in the store").to_vec())
    }
}

/// Reader of the texts as of one slot.
struct TextReader {
    texts: Texts,
    state: Arc<dyn StateView>,
}

type Model = BTreeMap<u8, Vec<u8>>;

impl StateReader for TextReader {
    /// Returns all texts, read one by one.
    fn query(&self, _: &[u8]) -> Result<Bytes, StateError> {
        let value = |key| Ok((key, self.texts.value(key, &*self.state)?));
        let all = self.texts.newest.keys().copied().map(value);
        Ok(encode(&all.collect::<Result<Model, StateError>>()?))
    }
}

impl TextReader {
    /// Returns all texts, read as one range. Checks that keys are unique and in order.
    fn scan(&self) -> Model {
        let (mut all, mut last) = (Model::new(), None);
        for entry in self.state.range(&[], None) {
            let (key, value) = entry.unwrap();
            assert!(last < Some(key.clone()), "{key:?} after {last:?}");
            if self
                .texts
                .newest
                .get(&key[0])
                .is_some_and(|newest| stored_key(key[0], *newest) == key[..])
            {
                all.insert(key[0], value.to_vec());
            }
            last = Some(key);
        }
        all
    }
}

fn encode(model: &Model) -> Bytes {
    model.iter().flat_map(|(key, text)| [&[*key], &text[..], b";"].concat()).collect()
}

/// Actions that run before and after the next read of a store.
#[derive(Clone, Default)]
struct Interruptions {
    before: Arc<Mutex<Option<Interruption>>>,
    after: Arc<Mutex<Option<Interruption>>>,
}

type Interruption = Box<dyn FnOnce() + Send>;

fn interrupt(with: &Mutex<Option<Interruption>>) {
    // Removed first, because the interruption may use the store.
    let interruption = with.lock().unwrap().take();
    interruption.into_iter().for_each(|interruption| interruption());
}

/// Store whose reads are interrupted.
struct Interrupted<S> {
    inner: S,
    interruptions: Interruptions,
}

impl StateStore for Interrupted<Box<dyn StateStore>> {
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError> {
        self.inner.write(changes)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.inner.sync()
    }

    fn reader(&self) -> Arc<dyn StoreReader> {
        Arc::new(Interrupted {
            inner: self.inner.reader(),
            interruptions: self.interruptions.clone(),
        })
    }
}

impl<S> Interrupted<S> {
    fn around<T>(&self, read: impl FnOnce(&S) -> T) -> T {
        interrupt(&self.interruptions.before);
        let found = read(&self.inner);
        interrupt(&self.interruptions.after);
        found
    }
}

impl StoreView for Interrupted<Arc<dyn StoreReader>> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.around(|store| store.get(key))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        interrupt(&self.interruptions.before);
        let entries = self.inner.range(from, to);
        interrupt(&self.interruptions.after);
        entries
    }
}

impl StoreReader for Interrupted<Arc<dyn StoreReader>> {
    fn view(&self) -> Result<Arc<dyn StoreView>, StorageError> {
        self.around(|store| store.view())
    }
}

/// Saver, and the pieces that it has not written.
struct SaverQueue {
    saver: Saver,
    pieces: VecDeque<Piece>,
}

impl SaverQueue {
    fn save_one(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.saver.save(&piece).unwrap();
        }
    }
}

const OWNER: Session = Session { node: NodeId(1), incarnation: Incarnation(5), boot: 1 };

/// Applier with a separate saver, and a model of the states that its readers must show.
struct ModelTest {
    rng: u64,
    disk: MemoryDisk,
    interruptions: Interruptions,
    applier: Applier,
    queue: Arc<Mutex<SaverQueue>>,
    /// Commands from slot 1 on.
    commands: Vec<Vec<u8>>,
    /// Texts after each slot.
    models: Vec<Model>,
    readers: Vec<(Box<TextReader>, Model)>,
}

impl ModelTest {
    fn new(seed: u64) -> Self {
        let (disk, interruptions) = (MemoryDisk::new(Incarnation(5)), Interruptions::default());
        let (applier, queue) = open(&disk, &interruptions);
        let (commands, models, readers) = (Vec::new(), vec![Model::new()], Vec::new());
        Self { rng: seed, disk, interruptions, applier, queue, commands, models, readers }
    }

    fn draw(&mut self, end: u64) -> u64 {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
        (self.rng >> 33) % end
    }

    fn random_step(&mut self) {
        match self.draw(16) {
            0..5 => {
                self.choose_command();
                self.apply_all();
            }
            5 | 6 => self.applier.seal(),
            7 | 8 => {
                let durable = Slot(self.draw(self.commands.len() as u64 + 1));
                let piece = self.applier.take_sealed(durable);
                self.queue.lock().unwrap().pieces.extend(piece);
            }
            9 | 10 => self.queue.lock().unwrap().save_one(),
            11..13 if self.readers.len() < 6 => self.open_reader(),
            13 => drop(self.applier.maintain(1 + self.commands.len() % 4).unwrap()),
            14 if !self.readers.is_empty() => {
                let at = self.draw(self.readers.len() as u64) as usize;
                self.readers.swap_remove(at);
            }
            15 if self.draw(6) == 0 => self.crash(),
            _ => self.queue.lock().unwrap().saver.sync().unwrap(),
        }
        // A piece may be written before or after the next read of the store.
        for at in [&self.interruptions.before, &self.interruptions.after] {
            let queue = Arc::clone(&self.queue);
            let interruption: Interruption = Box::new(move || queue.lock().unwrap().save_one());
            *at.lock().unwrap() = (self.rng >> 40 & 3 == 0).then_some(interruption);
        }
        for (reader, model) in &self.readers {
            assert_eq!(reader.query(b""), Ok(encode(model)), "a reader of an earlier slot");
            assert_eq!(reader.scan(), *model, "a scan of an earlier slot");
        }
    }

    fn choose_command(&mut self) {
        let key = b'a' + self.draw(6) as u8;
        let command = [vec![key], self.commands.len().to_string().into_bytes()].concat();
        let mut model = self.models[self.models.len() - 1].clone();
        model.entry(key).or_default().extend_from_slice(&command[1..]);
        self.commands.push(command);
        self.models.push(model);
    }

    fn apply_all(&mut self) {
        let applied = self.applier.applied().0;
        for (slot, command) in (1..).zip(&self.commands).skip(applied as usize) {
            let done = apply(&mut self.applier, slot, command).unwrap();
            assert_eq!(done.through, Slot(slot));
        }
    }

    fn open_reader(&mut self) {
        let reader: Box<dyn std::any::Any> = self.applier.reader().unwrap();
        let model = self.models[self.applier.applied().0 as usize].clone();
        self.readers.push((reader.downcast().unwrap(), model));
    }

    /// Crashes the node, opens its store and replays the log.
    fn crash(&mut self) {
        let kept = self.draw(4) as usize;
        self.disk.crash(kept);
        self.interruptions = Interruptions::default();
        (self.applier, self.queue) = open(&self.disk, &self.interruptions);
        self.open_reader();
        self.apply_all();
    }
}

fn open(disk: &MemoryDisk, interruptions: &Interruptions) -> (Applier, Arc<Mutex<SaverQueue>>) {
    let inner: Box<dyn StateStore> = Box::new(disk.open_state());
    let store = Interrupted { inner, interruptions: interruptions.clone() };
    let mut applier = Applier::open(Box::<Texts>::default(), Box::new(store), OWNER).unwrap();
    let queue = SaverQueue { saver: applier.take_saver(), pieces: VecDeque::new() };
    (applier, Arc::new(Mutex::new(queue)))
}

/// Opens an applier that writes its pieces itself.
fn open_alone(disk: &MemoryDisk) -> Applier {
    Applier::open(Box::<Texts>::default(), Box::new(disk.open_state()), OWNER).unwrap()
}

fn apply(applier: &mut Applier, slot: u64, command: &[u8]) -> Result<Applied, ApplyError> {
    let body = RequestKind::Command(Bytes::copy_from_slice(command));
    let (seq, settled) = (RequestSeq(slot), RequestSeq(slot));
    let request = Request { session: OWNER, seq, settled, body }.encode();
    let run = ChosenRun { first: Slot(slot), values: Values::command_only(&request) };
    let mut applied = Applied::default();
    applier.apply(&run, &mut applied).map(|()| applied)
}

#[test]
fn reads_show_the_applied_slot_while_pieces_are_written_in_any_order() {
    for seed in 0..100 {
        let mut test = ModelTest::new(seed);
        for _ in 0..200 {
            test.random_step();
        }
        test.open_reader();
        let (reader, model) = test.readers.last().unwrap();
        assert_eq!(reader.scan(), *model, "seed {seed}");
    }
}

#[test]
fn piece_written_while_a_view_is_taken_is_neither_missing_nor_shown_early() {
    for is_before in [true, false] {
        let (disk, interruptions) = (MemoryDisk::new(Incarnation(5)), Interruptions::default());
        let (mut applier, queue) = open(&disk, &interruptions);
        apply(&mut applier, 1, b"aone").unwrap();
        applier.seal();
        queue.lock().unwrap().pieces.extend(applier.take_sealed(Slot(1)));
        let at = if is_before { &interruptions.before } else { &interruptions.after };
        let other = Arc::clone(&queue);
        *at.lock().unwrap() = Some(Box::new(move || other.lock().unwrap().save_one()));
        let reader = applier.reader().unwrap();
        assert_eq!(reader.query(b"").unwrap(), "aone;");
        assert!(queue.lock().unwrap().pieces.is_empty(), "the piece was not written");
        apply(&mut applier, 2, b"atwo").unwrap();
        assert_eq!(reader.query(b"").unwrap(), "aone;");
        assert_eq!(applier.query(b"").unwrap(), "aonetwo;");
    }
}

#[test]
fn maintenance_is_saved_without_a_slot_and_does_not_change_the_digest() {
    let disk = MemoryDisk::new(Incarnation(5));
    let mut applier = open_alone(&disk);
    (1..=10).for_each(|slot| drop(apply(&mut applier, slot, b"ax").unwrap()));
    applier.seal();
    applier.persist(Slot(10)).unwrap();
    assert!(!applier.is_unsaved());
    let (digest, stored) = (applier.digest(), || disk.open_state().range(&[1], Some(&[2])).count());
    assert!(applier.maintain(4).unwrap(), "5 of 9 obsolete keys are left");
    assert!(applier.is_unsaved());
    applier.seal();
    assert!(applier.persist(Slot(10)).unwrap());
    assert!(!applier.maintain(100).unwrap());
    assert_eq!((applier.digest(), applier.query(b"").unwrap()), (digest, "axxxxxxxxxx;".into()));
    assert_eq!(stored(), 6, "the second slice is not written");
    let mut again = open_alone(&disk);
    assert_eq!((again.applied(), again.digest()), (Slot(10), digest));
    assert!(!again.maintain(100).unwrap());
    again.seal();
    again.persist(Slot(10)).unwrap();
    assert_eq!(stored(), 1);
    assert_eq!(open_alone(&disk).query(b"").unwrap(), "axxxxxxxxxx;");
}

#[test]
fn error_of_the_state_machine_is_final_and_nothing_more_is_saved() {
    let disk = MemoryDisk::new(Incarnation(5));
    let mut applier = open_alone(&disk);
    apply(&mut applier, 1, b"aone").unwrap();
    applier.seal();
    apply(&mut applier, 2, b"btwo").unwrap();
    let error = apply(&mut applier, 3, b"bfail").unwrap_err();
    assert_eq!(error.to_string(), "the stored state cannot be used: the disk is gone");
    assert_eq!(apply(&mut applier, 3, b"bthree").unwrap_err(), error, "the error is not final");
    assert_eq!(applier.maintain(1), Err(error.clone()));
    assert_eq!(applier.reader().err(), Some(error));
    applier.seal();
    applier.persist(Slot(3)).unwrap();
    let again = open_alone(&disk);
    assert_eq!((again.applied(), again.query(b"").unwrap()), (Slot(1), "aone;".into()));
}

#[test]
fn unreadable_store_fails_the_load_and_new_readers() {
    let disk = MemoryDisk::new(Incarnation(5));
    let mut applier = open_alone(&disk);
    apply(&mut applier, 1, b"aone").unwrap();
    applier.seal();
    applier.persist(Slot(1)).unwrap();
    let reader = applier.reader().unwrap();
    disk.crash(9);
    assert_eq!(reader.query(b"").unwrap(), "aone;", "an open reader has its own view");
    assert!(matches!(applier.reader(), Err(ApplyError::State(StateError::Store(_)))));
    let lost = disk.open_state();
    disk.crash(9);
    assert!(matches!(
        Applier::open(Box::<Texts>::default(), Box::new(lost), OWNER),
        Err(ApplyError::Storage(_))
    ));
}

#[test]
fn events_are_emitted_in_slot_order_and_again_after_a_restart() {
    let disk = MemoryDisk::new(Incarnation(5));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observed = |mut applier: Applier| {
        let seen = Arc::clone(&seen);
        applier.on_events(move |slot, events| {
            let lengths = events.iter().map(|event| *event.downcast_ref::<usize>().unwrap());
            seen.lock().unwrap().push((slot.0, lengths.collect::<Vec<_>>()));
        });
        applier
    };
    let mut applier = observed(open_alone(&disk));
    for (slot, command) in (1..).zip([b"ax", b"ay", b"bz"]) {
        apply(&mut applier, slot, command).unwrap();
        if slot == 1 {
            applier.seal();
            applier.persist(Slot(1)).unwrap();
        }
    }
    assert_eq!(
        std::mem::take(&mut *seen.lock().unwrap()),
        [(1, vec![1]), (2, vec![2]), (3, vec![1])]
    );
    let mut again = observed(open_alone(&disk));
    for (slot, command) in (1..).zip([b"ax", b"ay", b"bz"]) {
        apply(&mut again, slot, command).unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [(2, vec![2]), (3, vec![1])], "slot 1 was saved");
}
