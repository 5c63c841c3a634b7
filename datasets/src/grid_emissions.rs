//! Emissions of power grids, by Azure region.
//!
//! Factors of Cloud Carbon Footprint, from the EPA, the EEA and others, in metric tons of CO₂
//! equivalent per kWh; kept in grams per kWh.
//! Two lines of the original are damaged (see [`DAMAGED`]): their factor lost its decimal point, and
//! one has a field too many. [`repair`] mends these two and nothing else.
//!
//! Left out: change over time, marginal emissions, and what a data center buys or produces itself.

use crate::table::{Columns, CsvRow, Fields, Frame, ParquetError, ParquetRow, ReadError};

/// Grams in a metric ton.
const G_PER_TON: f64 = 1e6;

/// The greatest factor that is believed, in g/kWh: burning lignite emits some 1,100.
const MAX_G_PER_KWH: f64 = 2000.0;

/// Lines of the original that are damaged, and what they must have been: the factors are those that
/// the EEA gives for the two countries, 77 and 402 g/kWh.
pub const DAMAGED: [(&str, &str); 2] = [
    (
        "Finland Central,Helsinki,,000077,EEA,",
        "Finland Central,Helsinki,,0.000077,EEA",
    ),
    (
        "Germany West Central,Frankfurt,,000402,EEA",
        "Germany West Central,Frankfurt,,0.000402,EEA",
    ),
];

/// What the power of a region emits.
#[derive(Debug, Clone, PartialEq)]
pub struct GridFactor {
    /// The Azure region, such as `UK South`.
    pub region: String,
    /// Where it is.
    pub location: String,
    /// The North American grid region; empty elsewhere.
    pub nerc_region: String,
    /// CO₂ equivalent, in g/kWh.
    pub gco2e_per_kwh: f64,
    /// Who says so.
    pub source: String,
}

/// The text of the original with its two damaged lines mended.
#[must_use]
pub fn repair(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    for line in text.lines() {
        let right = DAMAGED.iter().find(|(damaged, _)| *damaged == line);
        mended.push_str(right.map_or(line, |(_, right)| right));
        mended.push('\n');
    }
    mended
}

impl CsvRow for GridFactor {
    const COLUMNS: &'static [&'static str] = &[
        "Region",
        "Location",
        "NERC Region",
        "CO2e (metric ton/kWh)",
        "Source",
    ];

    fn from_fields(fields: &Fields<'_>, _previous: Option<&Self>) -> Result<Self, ReadError> {
        let column = "CO2e (metric ton/kWh)";
        // Rounded to a thousandth of a gram: the digits of the original, without those of the float.
        let gco2e_per_kwh = (fields.f64(column)? * G_PER_TON * 1e3).round() / 1e3;
        if gco2e_per_kwh > MAX_G_PER_KWH {
            return Err(fields.unexpected(column, "a factor of at most 0.002 tons per kWh"));
        }
        Ok(Self {
            region: fields.name("Region")?,
            location: fields.name("Location")?,
            nerc_region: fields.text("NERC Region")?.to_owned(),
            gco2e_per_kwh,
            source: fields.name("Source")?,
        })
    }
}

impl ParquetRow for GridFactor {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .text("region", rows.iter().map(|row| row.region.as_str()))
            .text("location", rows.iter().map(|row| row.location.as_str()))
            .text(
                "nerc_region",
                rows.iter().map(|row| row.nerc_region.as_str()),
            )
            .f64("gco2e_per_kwh", rows.iter().map(|row| row.gco2e_per_kwh))
            .text("source", rows.iter().map(|row| row.source.as_str()))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let region = frame.text("region")?;
        let location = frame.text("location")?;
        let nerc_region = frame.text("nerc_region")?;
        let gco2e_per_kwh = frame.quantity("gco2e_per_kwh")?;
        let source = frame.text("source")?;
        let rows = (0..frame.height()).map(|row| Self {
            region: region[row].clone(),
            location: location[row].clone(),
            nerc_region: nerc_region[row].clone(),
            gco2e_per_kwh: gco2e_per_kwh[row],
            source: source[row].clone(),
        });
        Ok(rows.collect())
    }
}
