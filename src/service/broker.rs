//! The notification channel: publishing with confirmation, consuming with many workers, both across reconnects.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::Mutex;

use crate::ui;

/// The exchange of notifications, federated between the brokers.
pub(crate) const EXCHANGE: &str = "write-home-timeline";

/// Longest wait for a broker's answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Pause before a broken consumer is set up again.
const RECONNECT: Duration = Duration::from_millis(500);

/// The queue, and routing key, of notifications for `zone`.
pub(crate) fn queue_of(zone: &str) -> String {
    format!("{EXCHANGE}-{zone}")
}

/// A notification that was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// The connection failed.
    #[error("the broker failed: {0}")]
    Failed(#[from] lapin::Error),
    /// No answer in time.
    #[error("the broker did not answer within {} s", ANSWER.as_secs())]
    TimedOut,
    /// No queue is bound for it.
    #[error("no queue takes `{0}`")]
    Unroutable(String),
    /// The broker refused it.
    #[error("the broker refused a message for `{0}`")]
    Refused(String),
}

/// Publishes notifications and waits for the broker's confirmation of each.
pub(crate) struct Publisher {
    uri: String,
    open: Mutex<Option<Channel>>,
}

impl Publisher {
    /// A publisher to the broker at `uri`; it connects at the first message.
    pub(crate) fn new(uri: String) -> Self {
        Publisher { uri, open: Mutex::new(None) }
    }

    /// Publishes `body` under `key` and returns when the broker has it.
    pub(crate) async fn publish(&self, key: &str, body: &[u8]) -> Result<(), BrokerError> {
        let sent = tokio::time::timeout(ANSWER, self.try_publish(key, body)).await;
        let result = sent.map_err(|_| BrokerError::TimedOut).and_then(|result| result);
        if matches!(result, Err(BrokerError::Failed(_) | BrokerError::TimedOut)) {
            // The next message makes a new connection.
            *self.open.lock().await = None;
        }
        result
    }

    async fn try_publish(&self, key: &str, body: &[u8]) -> Result<(), BrokerError> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default();
        let confirm = channel.basic_publish(EXCHANGE.into(), key.into(), options, body, properties).await?.await?;
        match confirm {
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
            Confirmation::Ack(Some(_)) => Err(BrokerError::Unroutable(key.to_owned())),
            Confirmation::Nack(_) => Err(BrokerError::Refused(key.to_owned())),
        }
    }

    async fn channel(&self) -> Result<Channel, BrokerError> {
        let mut open = self.open.lock().await;
        if let Some(channel) = open.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        let connection = Connection::connect(&self.uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        declare_exchange(&channel).await?;
        *open = Some(channel.clone());
        Ok(channel)
    }
}

async fn declare_exchange(channel: &Channel) -> Result<(), lapin::Error> {
    let options = ExchangeDeclareOptions::default();
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, FieldTable::default()).await
}

/// Handles the messages of `queue` with `workers` workers, for ever: each takes one message at a time and acknowledges
/// it when `handle` has returned, so a message is lost only with its broker.
pub(crate) async fn consume<H, F>(uri: String, queue: String, workers: usize, handle: H)
where
    H: Fn(Vec<u8>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let handle = Arc::new(handle);
    loop {
        let error = match consume_once(&uri, &queue, workers, &handle).await {
            Ok(()) => "the broker ended the connection".to_owned(),
            Err(error) => error.to_string(),
        };
        ui::warn(format_args!("consuming `{queue}`: {error}; trying again"));
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn consume_once<H, F>(uri: &str, queue: &str, workers: usize, handle: &Arc<H>) -> Result<(), lapin::Error>
where
    H: Fn(Vec<u8>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    declare_exchange(&channel).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(queue.into(), EXCHANGE.into(), queue.into(), bind, FieldTable::default()).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let channel = connection.create_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        tasks.spawn(work(consumer, handle.clone()));
    }
    ui::note(format_args!("{workers} workers consume `{queue}`"));
    // One worker without its connection means that all are without.
    tasks.join_next().await;
    tasks.abort_all();
    Ok(())
}

async fn work<H, F>(mut consumer: lapin::Consumer, handle: Arc<H>)
where
    H: Fn(Vec<u8>) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    while let Some(Ok(delivery)) = consumer.next().await {
        handle(delivery.data).await;
        if delivery.acker.ack(BasicAckOptions::default()).await.is_err() {
            return;
        }
    }
}
