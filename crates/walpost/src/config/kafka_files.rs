//! The files that the connection to Kafka is made of: they can change while the process lives.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use walpost_core::limits::WindowLimits;
use walpost_kafka::{PropertyError, Settings};

use super::file;

/// What settings are made of, again and again. Its `Debug` shows no value.
#[derive(Clone)]
pub(crate) struct KafkaFiles {
    pub(super) brokers: String,
    pub(super) client_id: String,
    pub(super) allow_unsafe: bool,
    pub(super) window: WindowLimits,
    /// Secrets of files as they were when the configuration was read.
    pub(super) properties: BTreeMap<String, String>,
    /// The files of secrets, by property.
    pub(super) secrets: BTreeMap<String, String>,
}

impl KafkaFiles {
    /// The settings with what the files of secrets hold now. All other files are read by whoever
    /// connects.
    pub(crate) fn read(&self) -> Result<Settings, String> {
        let mut properties = self.properties.clone();
        for (name, path) in &self.secrets {
            properties.insert(name.clone(), file::secret(path)?);
        }
        self.settings(&properties).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(PropertyError::to_string).collect();
            errors.join("; ")
        })
    }

    /// The settings of these properties.
    pub(super) fn settings(
        &self,
        properties: &BTreeMap<String, String>,
    ) -> Result<Settings, Vec<PropertyError>> {
        let (brokers, client_id) = (&self.brokers, &self.client_id);
        let settings = Settings::new(brokers, properties, client_id, self.allow_unsafe)?;
        let events = usize::try_from(self.window.events).unwrap_or(usize::MAX);
        Ok(settings.with_window(events, self.window.bytes))
    }

    /// Every file, those of secrets and those that the settings name.
    pub(crate) fn paths(&self, settings: &Settings) -> Vec<PathBuf> {
        let secrets = self.secrets.values().map(String::as_str);
        secrets.chain(settings.files()).map(PathBuf::from).collect()
    }
}

impl fmt::Debug for KafkaFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaFiles")
            .field("brokers", &self.brokers)
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}
