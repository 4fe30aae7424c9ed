//! Step: from a job to its letter.
//!
//! A message is loaded and compiled once and kept for all its deliveries; what a
//! delivery costs is filling the templates, the MIME form and the signatures. RSA
//! signatures are made on the blocking pool, a few at a time: at some 370 µs each they
//! would hold up the sockets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Canonicalization, Settings, Stream};
use crate::domain::ids::{DeliveryId, MessageId};
use crate::domain::outcome::{Outcome, WaitReason};
use crate::domain::trace::Traceparent;
use crate::message::address::Address;
use crate::message::content::MessageContent;
use crate::message::dkim::{Algorithm, Manner, Signer};
use crate::message::letter::Letter;
use crate::message::render::{RenderError, RenderInput, Renderer};
use crate::message::return_path::{Purpose, ReturnKey};
use crate::message::template::Compiled;
use crate::message::tracking::{Tracking, TrackingKey};
use crate::message::unsubscribe::{TokenKey, link};
use crate::queue::job::Job;
use crate::queue::lane::Lane;
use crate::queue::{content, deadline};
use crate::route::choice::RouteChoice;
use crate::tenant::domain::DomainError;
use crate::tenant::own_names::{DomainNames, OwnNames};
use crate::tenant::seal::{SealError, Sealer};
use crate::tenant::signers::DomainKeys;

/// Wait of a delivery for which something of ours is missing for now.
const NOT_READY: Duration = Duration::from_secs(30);

/// Largest letter in bytes: what large receivers take (RFC 5321 asks for 64 KiB at least;
/// Gmail takes 25 MB, Amazon SES 40 MB).
const LARGEST_LETTER: usize = 40 << 20;

/// First size of the cache's table. Small on purpose: such a cache has one shard, and a
/// message is refused by the cache when it is larger than a shard.
const FIRST_ITEMS: usize = 32;

/// Largest message whose links are found beside the sockets: some milliseconds.
const SMALL_TO_READ: u64 = 512 << 10;

/// Memory for the letters in hand: 256 MiB. A delivery waits until its letter fits, so a
/// campaign with large attachments is sent fewer at a time and not from more memory.
const LETTER_MEMORY_KIB: usize = 256 << 10;

/// A letter with its part of the memory for letters, given back when it is dropped.
pub struct Rendered {
    /// What goes on the wire.
    pub letter: Letter,
    /// The trace that came with its message.
    pub caller: Option<Traceparent>,
    /// Whether the message has more than one delivery.
    pub many: bool,
    _memory: OwnedSemaphorePermit,
}

/// Renders letters.
pub struct Rendering {
    pool: PgPool,
    messages: Cache<MessageId, Arc<Prepared>, ByContent>,
    keys: DomainKeys,
    tokens: Option<TokenKey>,
    return_key: Option<ReturnKey>,
    tracking_key: Option<TrackingKey>,
    names: DomainNames,
    terms: RwLock<Arc<Terms>>,
    signing: Semaphore,
    /// Longest wait for the database.
    answer: Duration,
    /// Kibibytes that letters in hand may take.
    memory: Arc<Semaphore>,
    renderer: Renderer,
}

/// A message, ready for all its recipients.
struct Prepared {
    compiled: Compiled,
    from: Address,
    dated: u64,
    bytes: u64,
    caller: Option<Traceparent>,
    many: bool,
}

/// What a reload may change.
struct Terms {
    public_url: String,
    return_path_domain: Option<Arc<str>>,
    canonicalization: Canonicalization,
    streams: HashMap<String, Treatment>,
}

/// How mail of a stream is written.
#[derive(Clone, Copy)]
struct Treatment {
    bulk: bool,
    opens: bool,
    clicks: bool,
}

impl From<&Stream> for Treatment {
    fn from(stream: &Stream) -> Self {
        let Stream { bulk, track_opens: opens, track_clicks: clicks, .. } = *stream;
        Self { bulk, opens, clicks }
    }
}

#[derive(Clone)]
struct ByContent;

impl Weighter<MessageId, Arc<Prepared>> for ByContent {
    fn weight(&self, _: &MessageId, message: &Arc<Prepared>) -> u64 {
        message.bytes
    }
}

impl Rendering {
    /// Renders for the messages and keys in the database at `pool`.
    pub fn new(pool: PgPool, settings: &Settings) -> Result<Self, SealError> {
        let sealer = Sealer::new(&settings.secrets)?;
        let cache = settings.worker.message_cache_bytes;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            messages: Cache::with_weighter(FIRST_ITEMS, cache, ByContent),
            tokens: TokenKey::of(&settings.secrets),
            return_key: ReturnKey::of(&settings.secrets),
            tracking_key: TrackingKey::of(&settings.secrets),
            names: DomainNames::new(pool.clone()),
            keys: DomainKeys::new(pool.clone(), sealer),
            pool,
            terms: RwLock::new(Arc::new(Terms::read(settings))),
            signing: Semaphore::new(cores),
            answer: settings.database.answer_deadline(),
            memory: Arc::new(Semaphore::new(LETTER_MEMORY_KIB)),
            renderer: Renderer::new(LARGEST_LETTER),
        })
    }

    /// Takes over changed settings.
    pub fn apply(&self, settings: &Settings) {
        *self.terms.write() = Arc::new(Terms::read(settings));
    }

    /// The letter of a job. What cannot be rendered ends as malformed; what cannot be
    /// signed for now waits, and is never sent unsigned.
    ///
    /// The signature covers nothing that the carrier of `way` writes anew.
    pub async fn render(
        &self,
        job: &Job,
        lane: &Lane,
        way: &RouteChoice,
    ) -> Result<Rendered, Outcome> {
        let recipient = Address::try_new(&job.recipient)
            .map_err(|error| Outcome::Malformed { reason: format!("recipient: {error}") })?;
        let message = self.message(job.message).await?;
        let signers = self.keys.signers(job.tenant, message.from.domain());
        let signers = tokio::time::timeout(self.answer, signers)
            .await
            .map_err(|_silent| Outcome::Postponed {
                delay: Duration::from_secs(1),
                reason: WaitReason::NotReady,
            })?
            .map_err(|error| missing_key(job, &error))?;
        let terms = Arc::clone(&self.terms.read());
        let Treatment { bulk, opens, clicks } = terms.of(&lane.stream_name);
        let unsubscribe = self
            .tokens
            .as_ref()
            .filter(|_| bulk)
            .map(|key| link(&terms.public_url, &key.token(job.id)));
        let own = self.own_names(job, &message.from).await?;
        let back = own.return_path.or_else(|| terms.return_path_domain.clone());
        let host = own.tracking_host.filter(|_| opens || clicks);
        let tracking = host.zip(self.tracking_key.as_ref()).map(|(host, key)| Tracking {
            host,
            key: key.clone(),
            opens,
            clicks,
        });
        let address = |purpose| {
            let (key, domain) = self.return_key.as_ref().zip(back.as_deref())?;
            key.address(purpose, job.id, domain)
        };
        let memory = self.room_for(message.bytes).await?;
        let (caller, many) = (message.caller, message.many);
        let task = Task {
            renderer: self.renderer.clone().signing(Manner {
                canonicalization: terms.canonicalization,
                spared: way.rewritten_headers(),
            }),
            delivery: job.id,
            recipient,
            payload: job.payload.clone(),
            bulk,
            unsubscribe_mail: address(Purpose::Unsubscribe).filter(|_| unsubscribe.is_some()),
            return_path: address(Purpose::Return),
            unsubscribe,
            tracking,
            message,
            signers,
        };
        let tracked = task.tracking.is_some();
        let letter = if task.is_slow() { self.on_a_thread(task).await? } else { task.run() };
        match letter {
            Ok(letter) => {
                if tracked {
                    super::metrics::tracked(&letter);
                }
                Ok(Rendered { letter, caller, many, _memory: memory })
            }
            Err(error) => Err(Outcome::Malformed { reason: error.to_string() }),
        }
    }

    /// What the sender's domain has of its own.
    async fn own_names(&self, job: &Job, from: &Address) -> Result<OwnNames, Outcome> {
        let own = self.names.of(job.tenant, from.domain());
        deadline::within(self.answer, own).await.map_err(|error| {
            tracing::warn!(%error, delivery = %job.id, "could not look up a domain's own names");
            Outcome::Postponed { delay: Duration::from_secs(1), reason: WaitReason::NotReady }
        })
    }

    /// Waits until a letter of a message of this weight fits into memory; one that is larger
    /// than all of it is sent alone.
    async fn room_for(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Outcome> {
        let kib = bytes.div_ceil(1_024).clamp(1, LETTER_MEMORY_KIB as u64) as u32;
        Arc::clone(&self.memory)
            .acquire_many_owned(kib)
            .await
            .map_err(|error| Outcome::Crashed { reason: error.to_string() })
    }

    /// Runs a task that would hold up the sockets on a thread of its own; as many at once
    /// as there are cores.
    async fn on_a_thread(&self, task: Task) -> Result<Result<Letter, RenderError>, Outcome> {
        let crashed = |reason: String| Outcome::Crashed { reason };
        let _permit = self.signing.acquire().await.map_err(|error| crashed(error.to_string()))?;
        tokio::task::spawn_blocking(move || task.run())
            .await
            .map_err(|error| crashed(format!("rendering: {error}")))
    }

    async fn message(&self, id: MessageId) -> Result<Arc<Prepared>, Outcome> {
        if let Some(known) = self.messages.get(&id) {
            return Ok(known);
        }
        // Of many deliveries that need the same message at once, one loads it.
        self.messages.get_or_insert_async(&id, self.load(id)).await
    }

    async fn load(&self, id: MessageId) -> Result<Arc<Prepared>, Outcome> {
        let stored = deadline::within(self.answer, content::load(&self.pool, id))
            .await
            .map_err(|error| {
                tracing::warn!(%error, message_id = %id, "could not load a message");
                Outcome::Postponed { delay: Duration::from_secs(1), reason: WaitReason::NotReady }
            })?
            .ok_or_else(|| Outcome::Malformed { reason: "the message is gone".into() })?;
        let malformed = |reason: String| Outcome::Malformed { reason };
        let content: MessageContent = serde_json::from_str(&stored.content)
            .map_err(|error| malformed(format!("content: {error}")))?;
        let compiled = Compiled::compile(&content).map_err(|error| malformed(error.to_string()))?;
        // The compiled form is about as large again as the content.
        let bytes = 2 * stored.content.len() as u64 + 1_024;
        let from = compiled.fixed().from.address().clone();
        let caller = content.traceparent.as_deref().and_then(|text| text.parse().ok());
        let (dated, many) = (stored.dated, stored.accepted != 1);
        Ok(Arc::new(Prepared { compiled, from, dated, bytes, caller, many }))
    }
}

impl fmt::Debug for Rendering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendering").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

/// Everything one letter is made of.
struct Task {
    renderer: Renderer,
    delivery: DeliveryId,
    recipient: Address,
    payload: Option<String>,
    bulk: bool,
    unsubscribe: Option<String>,
    unsubscribe_mail: Option<Address>,
    return_path: Option<Address>,
    tracking: Option<Tracking>,
    message: Arc<Prepared>,
    signers: Arc<[Arc<Signer>]>,
}

impl Task {
    fn is_slow(&self) -> bool {
        self.signers.iter().any(|signer| signer.algorithm() == Algorithm::RsaSha256)
            || (self.tracking.is_some() && self.message.bytes > SMALL_TO_READ)
    }

    fn run(&self) -> Result<Letter, RenderError> {
        let input = RenderInput {
            delivery: self.delivery,
            recipient: &self.recipient,
            payload: self.payload.as_deref(),
            date: UNIX_EPOCH + Duration::from_secs(self.message.dated),
            bulk: self.bulk,
            unsubscribe: self.unsubscribe.as_deref(),
            unsubscribe_mail: self.unsubscribe_mail.as_ref(),
            return_path: Some(self.return_path.as_ref().unwrap_or(&self.message.from)),
            tracking: self.tracking.as_ref(),
        };
        self.renderer.render(&self.message.compiled, &input, &self.signers)
    }
}

/// A key that is missing or does not open is put right by an operator; the mail waits.
fn missing_key(job: &Job, error: &DomainError) -> Outcome {
    tracing::error!(delivery = %job.id, %error, "cannot sign; the delivery waits");
    Outcome::Postponed { delay: NOT_READY, reason: WaitReason::NotReady }
}

impl Terms {
    fn read(settings: &Settings) -> Self {
        Self {
            public_url: settings.api.public_url.clone(),
            return_path_domain: settings.feedback.return_path_domain.as_deref().map(Arc::from),
            canonicalization: settings.dkim.canonicalization,
            streams: settings
                .streams
                .iter()
                .map(|(name, stream)| (name.clone(), Treatment::from(stream)))
                .collect(),
        }
    }

    /// A stream that is not configured follows `bulk`.
    fn of(&self, stream: &str) -> Treatment {
        let known = self.streams.get(stream).or_else(|| self.streams.get("bulk"));
        known.copied().unwrap_or_else(|| Treatment::from(&Stream::bulk()))
    }
}
