//! How a CSV file becomes records: which column goes into which field, cleaned how.
//!
//! ```toml
//! type = "customer"
//! key = "customer_id"                 # a unique field: a second import updates instead of doubling
//! null = ["", "NULL"]                 # cells that mean "nothing here"
//! transform = ["trim"]                # before each column's own
//!
//! [columns]                           # CSV column = field
//! customerID = "customer_id"
//! phone = { field = "phone", transform = ["e164:49"], null = ["n/a"] }
//!
//! [constants]
//! source = "northwind"
//! ```
//! Columns that are not named are not taken. Errors name line and column or field, and never hold a value.

use std::collections::{BTreeMap, HashMap, HashSet};

use csv::StringRecord;
use serde::Deserialize;

use super::names::TypeName;
use super::transform::Transform;
use super::value;
use crate::proto::v1::{Field, Schema, Value};
use crate::toml_fault::TomlFault;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    r#type: String,
    key: Option<String>,
    delimiter: Option<char>,
    #[serde(default)]
    null: Vec<String>,
    #[serde(default)]
    transform: Vec<Transform>,
    columns: BTreeMap<String, Target>,
    #[serde(default)]
    constants: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a field's name, or a table of field, transform and null")]
enum Target {
    Field(String),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    field: String,
    #[serde(default)]
    transform: Vec<Transform>,
    #[serde(default)]
    null: Vec<String>,
}

/// A mapping file, parsed but not yet laid onto a schema and a CSV header.
pub struct Mapping {
    pub schema: TypeName,
    pub key: Option<String>,
    pub delimiter: u8,
    columns: Vec<Column>,
    constants: Vec<(String, String)>,
}

struct Column {
    column: String,
    field: String,
    transforms: Vec<Transform>,
    null: HashSet<String>,
}

/// Why one row cannot be sent. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowError {
    /// The field or the CSV column; empty where it is the whole row.
    pub field: String,
    pub reason: String,
}

impl Mapping {
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| TomlFault::new(text, &e).to_string())?;
        let delimiter = u8::try_from(file.delimiter.unwrap_or(','))
            .map_err(|_| "delimiter must be one ASCII character".to_owned())?;
        let mut fields = HashSet::new();
        let mut columns = Vec::new();
        for (column, target) in file.columns {
            let full = match target {
                Target::Field(field) => Full { field, transform: Vec::new(), null: Vec::new() },
                Target::Full(full) => full,
            };
            if !fields.insert(full.field.clone()) {
                return Err(format!("two columns go into the field {}", full.field));
            }
            columns.push(Column {
                column,
                field: full.field,
                transforms: file.transform.iter().chain(&full.transform).cloned().collect(),
                null: file.null.iter().chain(&full.null).cloned().collect(),
            });
        }
        let mut constants = Vec::new();
        for (field, constant) in file.constants {
            if !fields.insert(field.clone()) {
                return Err(format!("the field {field} has a column and a constant"));
            }
            constants.push((field, plain(constant)?));
        }
        if let Some(key) = &file.key
            && !columns.iter().any(|c| &c.field == key)
        {
            return Err(format!("no column goes into the key field {key}"));
        }
        let schema = file.r#type.parse().map_err(str::to_owned)?;
        Ok(Self { schema, key: file.key, delimiter, columns, constants })
    }

    /// Lays the mapping onto the schema and the CSV file's header.
    pub fn plan(&self, schema: &Schema, header: &StringRecord) -> Result<Plan, String> {
        let known: HashMap<&str, &Field> =
            schema.fields.iter().map(|f| (f.name.as_str(), f)).collect();
        let find = |name: &str| {
            let field = known.get(name).map(|f| (*f).clone());
            field.ok_or_else(|| format!("the type {} has no field {name}", self.schema.id()))
        };
        if let Some(key) = &self.key
            && !find(key)?.unique
        {
            return Err(format!("the key field {key} is not unique in the schema"));
        }
        let mut cells = Vec::new();
        for column in &self.columns {
            let mut places = header.iter().enumerate().filter(|(_, name)| *name == column.column);
            let place = places.next().ok_or_else(|| {
                format!(
                    "the CSV file has no column {} (its header is the first line)",
                    column.column
                )
            })?;
            if places.next().is_some() {
                return Err(format!("the CSV file has the column {} twice", column.column));
            }
            cells.push(Cell {
                place: place.0,
                field: find(&column.field)?,
                transforms: column.transforms.clone(),
                null: column.null.clone(),
            });
        }
        let mut constants = Vec::new();
        for (name, text) in &self.constants {
            let made = value::from_text(&find(name)?, text);
            constants.push((name.clone(), made.map_err(|e| format!("the constant {name} {e}"))?));
        }
        let taken: HashSet<&str> = self.columns.iter().map(|c| c.column.as_str()).collect();
        let left_out = header.iter().filter(|name| !taken.contains(name)).map(str::to_owned);
        Ok(Plan { width: header.len(), cells, constants, left_out: left_out.collect() })
    }
}

fn plain(constant: toml::Value) -> Result<String, String> {
    match constant {
        toml::Value::String(s) => Ok(s),
        toml::Value::Integer(n) => Ok(n.to_string()),
        toml::Value::Float(n) => Ok(n.to_string()),
        toml::Value::Boolean(b) => Ok(b.to_string()),
        _ => Err("a constant is a string, a number or true or false".to_owned()),
    }
}

struct Cell {
    place: usize,
    field: Field,
    transforms: Vec<Transform>,
    null: HashSet<String>,
}

impl Cell {
    /// The cell's text after cleaning; `None` if it means nothing at any step.
    fn clean(&self, raw: &str) -> Result<Option<String>, &'static str> {
        let mut text = raw.to_owned();
        for transform in &self.transforms {
            if self.null.contains(&text) {
                return Ok(None);
            }
            text = transform.apply(&text)?;
        }
        Ok((!self.null.contains(&text)).then_some(text))
    }
}

/// A mapping that fits a schema and a header: turns rows into fields.
pub struct Plan {
    width: usize,
    cells: Vec<Cell>,
    constants: Vec<(String, Value)>,
    /// Columns that are not taken.
    pub left_out: Vec<String>,
}

/// What one row becomes.
pub struct Row {
    pub fields: BTreeMap<String, Value>,
    /// Every field that the mapping speaks of, also the empty ones: an update removes those.
    pub spoken_of: Vec<String>,
}

impl Plan {
    pub fn row(&self, row: &StringRecord) -> Result<Row, RowError> {
        if row.len() != self.width {
            let more =
                if row.len() > self.width { "; a value with a comma must be quoted" } else { "" };
            let reason =
                format!("has {} columns where the header has {}{more}", row.len(), self.width);
            return Err(RowError { field: String::new(), reason });
        }
        let mut fields: BTreeMap<String, Value> = self.constants.iter().cloned().collect();
        let mut spoken_of: Vec<String> = self.constants.iter().map(|(f, _)| f.clone()).collect();
        for cell in &self.cells {
            spoken_of.push(cell.field.name.clone());
            let failed = |reason: String| RowError { field: cell.field.name.clone(), reason };
            // The row is as wide as the header, in which the place was found.
            let raw = row.get(cell.place).unwrap_or_default();
            let Some(text) = cell.clean(raw).map_err(|e| failed(e.to_owned()))? else {
                continue;
            };
            let made = value::from_text(&cell.field, &text).map_err(|e| failed(e.to_string()))?;
            fields.insert(cell.field.name.clone(), made);
        }
        Ok(Row { fields, spoken_of })
    }
}

#[cfg(test)]
#[path = "mapping_tests.rs"]
mod tests;
