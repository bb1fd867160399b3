//! Whose Postgres it is: managed services change rights and settings in ways of their own, and a
//! fix has to speak their language.

use std::collections::BTreeMap;

use walpost_walsender::{Connection, Error, quote_identifier, quote_literal};

/// A managed service, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Nothing says that it is managed.
    #[default]
    Own,
    Rds,
    Aurora,
    CloudSql,
    AlloyDb,
    Azure,
    Neon,
    Supabase,
}

/// What the catalogue shows of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    pub roles: Vec<String>,
    pub databases: Vec<String>,
    /// Settings that only the service's servers have, with their values.
    pub settings: BTreeMap<String, String>,
    pub has_aurora_version: bool,
}

const ROLES: [&str; 7] = [
    "rds_superuser",
    "rdsadmin",
    "cloudsqlsuperuser",
    "alloydbsuperuser",
    "azure_pg_admin",
    "neon_superuser",
    "supabase_admin",
];

const DATABASES: [&str; 5] = [
    "rdsadmin",
    "cloudsqladmin",
    "alloydbadmin",
    "azure_maintenance",
    "azure_sys",
];

const SETTINGS: [&str; 7] = [
    "rds.logical_replication",
    "rds.extensions",
    "cloudsql.logical_decoding",
    "alloydb.logical_decoding",
    "azure.extensions",
    "neon.timeline_id",
    "neon.tenant_id",
];

/// Looks for signs, and reads them.
pub(crate) async fn provider(connection: &mut Connection) -> Result<Provider, Error> {
    let list = |names: &[&str]| {
        let quoted: Vec<_> = names.iter().map(|name| quote_literal(name)).collect();
        quoted.join(", ")
    };
    // Settings of an extension that is not loaded are not in pg_settings.
    let sql = format!(
        "select (select coalesce(jsonb_agg(rolname), '[]') from pg_catalog.pg_roles \
                 where rolname in ({})), \
                (select coalesce(jsonb_agg(datname), '[]') from pg_catalog.pg_database \
                 where datname in ({})), \
                (select coalesce(jsonb_object_agg(name, current_setting(name, true)), '{{}}') \
                 from unnest(array[{}]) name where current_setting(name, true) is not null), \
                exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n \
                        on n.oid = p.pronamespace \
                        where p.proname = 'aurora_version' and n.nspname = 'pg_catalog')",
        list(&ROLES),
        list(&DATABASES),
        list(&SETTINGS)
    );
    let rows = connection.query(&sql).await?;
    let text = |index: usize| rows.first().and_then(|row| row.get(index));
    let names = |index| text(index).and_then(|text| serde_json::from_str(text).ok());
    let signs = Signs {
        roles: names(0).unwrap_or_default(),
        databases: names(1).unwrap_or_default(),
        settings: text(2)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
        has_aurora_version: text(3) == Some("t"),
    };
    Ok(Provider::of(&signs))
}

impl Provider {
    /// Reads the signs.
    pub(crate) fn of(signs: &Signs) -> Self {
        let role = |name: &str| signs.roles.iter().any(|role| role == name);
        let database = |name: &str| signs.databases.iter().any(|database| database == name);
        let setting = |prefix: &str| signs.settings.keys().any(|name| name.starts_with(prefix));
        if signs.has_aurora_version {
            Self::Aurora
        } else if role("rds_superuser") || database("rdsadmin") || setting("rds.") {
            Self::Rds
        } else if role("alloydbsuperuser") || database("alloydbadmin") || setting("alloydb.") {
            Self::AlloyDb
        } else if role("cloudsqlsuperuser") || database("cloudsqladmin") || setting("cloudsql.") {
            Self::CloudSql
        } else if role("azure_pg_admin") || database("azure_maintenance") || setting("azure.") {
            Self::Azure
        } else if role("neon_superuser") || setting("neon.") {
            Self::Neon
        } else if role("supabase_admin") {
            Self::Supabase
        } else {
            Self::Own
        }
    }

    /// Its name, where it is a managed service.
    pub(crate) const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Own => return None,
            Self::Rds => "Amazon RDS",
            Self::Aurora => "Amazon Aurora",
            Self::CloudSql => "Google Cloud SQL",
            Self::AlloyDb => "Google AlloyDB",
            Self::Azure => "Azure Database for PostgreSQL",
            Self::Neon => "Neon",
            Self::Supabase => "Supabase",
        })
    }

    /// How to get `wal_level = logical`.
    pub(crate) fn wal_level_fix(self) -> String {
        match self {
            Self::Rds => "set rds.logical_replication = 1 in the instance's DB parameter group, \
                          then reboot the instance"
                .to_owned(),
            Self::Aurora => "set rds.logical_replication = 1 in the DB cluster parameter group, \
                             then reboot the writer"
                .to_owned(),
            Self::CloudSql => "set the flag cloudsql.logical_decoding = on of the instance (it \
                               restarts)"
                .to_owned(),
            Self::AlloyDb => "set the flag alloydb.logical_decoding = on of the instance (it \
                              restarts)"
                .to_owned(),
            Self::Azure => "set the server parameter wal_level to logical (az postgres \
                            flexible-server parameter set --name wal_level --value logical), then \
                            restart the server"
                .to_owned(),
            Self::Neon => "enable Logical Replication in the project's settings".to_owned(),
            Self::Own | Self::Supabase => {
                "alter system set wal_level = 'logical'; -- then restart the server".to_owned()
            }
        }
    }

    /// How to give a role the right to replicate.
    pub(crate) fn replication_fix(self, role: &str) -> String {
        let quoted = quote_identifier(role);
        match self {
            Self::Rds | Self::Aurora => format!("grant rds_replication to {quoted};"),
            Self::CloudSql | Self::AlloyDb => format!("alter user {quoted} with replication;"),
            Self::Azure => {
                format!("alter role {quoted} with replication; -- as a member of azure_pg_admin")
            }
            Self::Neon => format!(
                "alter role {quoted} with replication; -- or make the role in Neon's console: \
                 those have the right"
            ),
            Self::Own | Self::Supabase => format!("alter role {quoted} replication;"),
        }
    }

    /// How to change a setting of the server.
    pub(crate) fn setting_fix(self, name: &str, value: &str, needs_restart: bool) -> String {
        let place = match self {
            Self::Own => {
                let value = quote_literal(value);
                let then = if needs_restart {
                    "-- then restart the server"
                } else {
                    "select pg_reload_conf();"
                };
                return format!("alter system set {name} = {value}; {then}");
            }
            Self::Rds => "the instance's DB parameter group",
            Self::Aurora => "the DB cluster parameter group",
            Self::CloudSql | Self::AlloyDb => "the flags of the instance",
            Self::Azure => "the server parameters",
            Self::Neon => "the project's settings, as far as Neon has it there",
            // Its role postgres may not alter the system.
            Self::Supabase => {
                return format!(
                    "supabase postgres-config update --config {name}={value} (the command line of \
                     Supabase; where you host it yourself: alter system, as supabase_admin)"
                );
            }
        };
        let then = if needs_restart {
            ", then restart it"
        } else {
            ""
        };
        format!("set {name} = {value} in {place}{then}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(roles: &[&str], databases: &[&str], settings: &[(&str, &str)]) -> Signs {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Signs {
            roles: owned(roles),
            databases: owned(databases),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            has_aurora_version: false,
        }
    }

    #[test]
    fn services_are_known_by_their_roles_databases_and_settings() {
        let rds = signs(
            &["rds_superuser", "rdsadmin"],
            &["rdsadmin"],
            &[("rds.logical_replication", "off")],
        );
        let aurora = Signs {
            has_aurora_version: true,
            ..rds.clone()
        };
        for (signs, provider) in [
            (rds, Provider::Rds),
            (aurora, Provider::Aurora),
            (
                signs(&["cloudsqlsuperuser"], &["cloudsqladmin"], &[]),
                Provider::CloudSql,
            ),
            (
                signs(&["alloydbsuperuser", "cloudsqlsuperuser"], &[], &[]),
                Provider::AlloyDb,
            ),
            (
                signs(&["azure_pg_admin"], &["azure_maintenance"], &[]),
                Provider::Azure,
            ),
            (
                signs(&["neon_superuser"], &[], &[("neon.tenant_id", "x")]),
                Provider::Neon,
            ),
            (signs(&["supabase_admin"], &[], &[]), Provider::Supabase),
            (signs(&[], &[], &[]), Provider::Own),
        ] {
            assert_eq!(Provider::of(&signs), provider, "{signs:?}");
        }
    }

    #[test]
    fn every_fix_speaks_the_language_of_the_service() {
        assert!(
            Provider::Rds
                .wal_level_fix()
                .contains("rds.logical_replication = 1")
        );
        assert!(
            Provider::Aurora
                .wal_level_fix()
                .contains("cluster parameter group")
        );
        assert!(
            Provider::CloudSql
                .wal_level_fix()
                .contains("cloudsql.logical_decoding")
        );
        assert!(
            Provider::Azure
                .wal_level_fix()
                .contains("server parameter wal_level")
        );
        let own = Provider::Own.replication_fix("a b");
        assert_eq!(own, "alter role \"a b\" replication;");
        let rds = Provider::Rds.replication_fix("walpost");
        assert_eq!(rds, "grant rds_replication to \"walpost\";");
        let azure = Provider::Azure.setting_fix("max_wal_senders", "20", true);
        assert_eq!(
            azure,
            "set max_wal_senders = 20 in the server parameters, then restart it"
        );
        let supabase = Provider::Supabase.setting_fix("max_slot_wal_keep_size", "50GB", false);
        assert!(
            supabase.contains("--config max_slot_wal_keep_size=50GB"),
            "{supabase}"
        );
    }
}
