//! Original formats: good files give rows, bad ones an error that names file, line and column.

use std::path::Path;

use datasets::azure_catalog::VmSize;
use datasets::azure_llm::TraceRow;
use datasets::azure_vm_cpu::{Sample, VmNumber};
use datasets::azure_vm_noise::Benchmark;
use datasets::grid_emissions::{self, GridFactor};
use datasets::power_curves::PowerCurve;
use datasets::scinet_testbed::{HostSample, Task};
use datasets::{CsvRow, ReadError, parse_csv, read_csv};

const LLM_HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
const TASK_HEADER: &str = "request,task,application,choice,host,created_interval,\
                           started_interval,finished_interval\n";
const HOST_HEADER: &str = "interval,host,enabled,running_tasks,cpu_percent_smoothed,cpu_percent,\
                           ips_cap_mips,power_w,ram_used_percent,disk_used_mib\n";
const CURVE_HEADER: &str =
    "vm_size,w_0,w_10,w_20,w_30,w_40,w_50,w_60,w_70,w_80,w_90,w_100,spec_power_ssj2008_result\n";

fn parse<R: CsvRow>(text: impl AsRef<[u8]>) -> Result<Vec<R>, ReadError> {
    parse_csv(Path::new("trace.csv"), text.as_ref())
}

fn error<R: CsvRow>(text: impl AsRef<[u8]>) -> String {
    match parse::<R>(text) {
        Ok(rows) => panic!("{} rows instead of an error", rows.len()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn columns_may_stand_in_any_order_among_others() {
    let text =
        "GeneratedTokens,note,TIMESTAMP,ContextTokens\n10,x,2023-11-16 18:17:03.9799600,4808\n";
    let rows: Vec<TraceRow> = parse(text).expect("the file is good");
    assert_eq!(
        (rows[0].context_tokens, rows[0].generated_tokens),
        (4_808, 10)
    );
}

#[test]
fn a_byte_order_mark_and_crlf_are_read() {
    let text = "\u{feff}TIMESTAMP,ContextTokens,GeneratedTokens\r\n\
                2023-11-16 18:17:03.9799600,4808,10\r\n";
    assert_eq!(parse::<TraceRow>(text).expect("the file is good").len(), 1);
}

#[test]
fn llm_errors() {
    let header = LLM_HEADER;
    let good = "2023-11-16 18:17:03.9799600,4808,10\n";
    let cases = [
        String::new(),
        header.to_owned(),
        "TIMESTAMP,GeneratedTokens\n".to_owned(),
        format!("{header}{good}2023-11-16 18:17:04.1,1\n"),
        format!("{header}{good}2023-11-16 18:17:04.1,1,2,3\n"),
        format!("{header}2023-11-16T18:17:03,4808,10\n"),
        format!("{header}{good}2023-11-16 18:17:03.9799599,4808,10\n"),
        format!("{header}{good}2023-11-16 18:17:04.1,-5,10\n"),
        format!("{header}{good}2023-11-16 18:17:04.1,12.5,10\n"),
        format!("{header}{good}2023-11-16 18:17:04.1,12,4294967296\n"),
        format!(
            "{header}{good}2023-11-16 18:17:04.1,{},10\n",
            "9".repeat(500)
        ),
    ];
    let errors: Vec<String> = cases.iter().map(error::<TraceRow>).collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn lines_are_counted_as_in_an_editor() {
    let bad = "2023-11-16 18:17:03.9,x,10";
    let good = "2023-11-16 18:17:03.9,1,10";
    for (text, line) in [
        (format!("{LLM_HEADER}{bad}\n"), 2),
        (format!("{LLM_HEADER}{good}\n{bad}"), 3),
        (format!("{LLM_HEADER}{good}\n\n\n{bad}\n"), 5),
        (format!("\n{LLM_HEADER}{bad}\n"), 3),
        (
            format!("{LLM_HEADER}{good}\n{bad}\n").replace('\n', "\r\n"),
            3,
        ),
        (
            format!("{LLM_HEADER}{good}\n\n{bad}\n").replace('\n', "\r\n"),
            4,
        ),
        (format!("\u{feff}{LLM_HEADER}{bad}\n"), 2),
        (
            format!("{LLM_HEADER}{good}\n2023-11-16 18:17:03.9,\"1\n2\",10\n"),
            3,
        ),
    ] {
        match parse::<TraceRow>(&text) {
            Err(ReadError::Field {
                line: found,
                column,
                ..
            }) => {
                assert_eq!(
                    (found, column.as_str()),
                    (line, "ContextTokens"),
                    "{text:?}"
                );
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut text = LLM_HEADER.as_bytes().to_vec();
    text.extend(b"2023-11-16 18:17:03.9,\xff\xfe,10\n");
    assert_eq!(
        error::<TraceRow>(text),
        "trace.csv:2: field 2 is not UTF-8 text"
    );
}

#[test]
fn testbed_errors() {
    let task =
        |record: &str| error::<Task>(format!("{TASK_HEADER}0,0,vii,layer,1,5,6,7\n{record}"));
    let host = |record: &str| {
        error::<HostSample>(format!(
            "{HOST_HEADER}2,3,1,1,0.8,1,4000,75.4,17.9,4131\n{record}"
        ))
    };
    let errors = [
        task("1,0,vii,sematic,1,5,6,7\n"),
        task("1,2,vii,layer,1,5,6,7\n"),
        task("1,0,,layer,1,5,6,7\n"),
        task("1,0,vii,layer,1,4,6,7\n"),
        task("1,0,vii,layer,1,5,4,7\n"),
        task("1,0,vii,layer,1,5,6,5\n"),
        host("1,3,1,1,0.8,1,4000,75.4,17.9,4131\n"),
        host("2,3,1,1,0.8,1,4000,75.4,17.9,4131\n"),
        host("2,4,yes,1,0.8,1,4000,75.4,17.9,4131\n"),
        host("2,4,1,1,NaN,1,4000,75.4,17.9,4131\n"),
        host("2,4,1,1,0.8,101,4000,75.4,17.9,4131\n"),
        host("2,4,1,1,0.8,1,inf,75.4,17.9,4131\n"),
        host("2,4,1,1,0.8,1,4000,-75.4,17.9,4131\n"),
        host("2,4,1,1,0.8,1,4000,1e999,17.9,4131\n"),
        host("2,4,1,1,0.8,1,4000,,17.9,4131\n"),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_power_curve_may_not_fall() {
    let text = format!("{CURVE_HEADER}B2s,75,78,84,80,95,100,105,109,112,115,117,\n");
    let expected = "trace.csv:2: column `w_30`: expected at least 84, the power at the load \
                    before, found `80`";
    assert_eq!(error::<PowerCurve>(text), expected);
}

#[test]
fn burst_credits_come_all_or_not_at_all() {
    let text = "sku,series,vcpu,mem_gib,temp_disk_gib,max_nics,max_network_mbps,\
                uncached_disk_iops,uncached_disk_mbps,burst_disk_iops,burst_disk_mbps,\
                b_base_cpu_pct_of_vm,b_initial_credits,b_credits_per_hour,b_max_credits,\
                cpu_models,coremark_mean,coremark_sd,usd_h_uksouth,usd_h_westeurope,\
                usd_h_eastus,price_note\n\
                X,Y,2,4,8,3,,1280,15,4000,100,,60,24,576,Z,1,2,0.1,0.1,0.1,\n";
    let expected = "trace.csv:2: column `b_initial_credits`: expected nothing, as \
                    `b_base_cpu_pct_of_vm` is empty, found `60`";
    assert_eq!(error::<VmSize>(text), expected);
}

#[test]
fn an_absent_file_and_a_folder_are_named() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    for path in [
        folder.path().join("absent.csv"),
        folder.path().to_path_buf(),
    ] {
        let error = read_csv::<TraceRow>(&path)
            .expect_err("there is no such file")
            .to_string();
        assert!(
            error.starts_with(&format!("cannot read {}: ", path.display())),
            "{error}"
        );
    }
}

#[test]
fn benchmarks_are_checked() {
    let header = "sku,region,lifespan,vm_id,start,value\n";
    let good = "B8ms,eastus,long,0,2023-09-01 05:13,8218.62\n";
    let rows: Vec<Benchmark> = parse(format!("{header}{good}")).expect("the file is good");
    assert!((rows[0].events_per_s - 8218.62).abs() < 1e-9);
    for (from, to, expected) in [
        (
            "05:13",
            "25:13",
            "trace.csv:3: column `start`: expected a minute from 2000 to 2100 as in \
             2023-09-01 05:13, found `2023-09-01 25:13`",
        ),
        (
            "long",
            "medium",
            "trace.csv:3: column `lifespan`: expected `long` or `short`, found `medium`",
        ),
        (
            "8218.62",
            "0",
            "trace.csv:3: column `value`: expected a number above 0, found `0`",
        ),
    ] {
        let bad = good.replace(from, to);
        assert_eq!(error::<Benchmark>(format!("{header}{good}{bad}")), expected);
    }
}

#[test]
fn damaged_grid_factors_are_mended_and_others_refused() {
    let header = "Region,Location,NERC Region,CO2e (metric ton/kWh),Source\n";
    let [(finland, _), (germany, _)] = grid_emissions::DAMAGED;
    let text = format!("{header}UK South,London,,0.000228,EEA\r\n{finland}\r\n{germany}\r\n");
    let rows: Vec<GridFactor> = parse(grid_emissions::repair(&text)).expect("both are mended");
    let factors: Vec<f64> = rows.iter().map(|row| row.gco2e_per_kwh).collect();
    assert_eq!(factors, [228.0, 77.0, 402.0]);
    assert_eq!(
        error::<GridFactor>(format!("{header}Spain Central,Madrid,,000171,EEA\n")),
        "trace.csv:2: column `CO2e (metric ton/kWh)`: expected a factor of at most 0.002 tons per \
         kWh, found `000171`"
    );
}

#[test]
fn cpu_use_is_checked() {
    let names: Vec<String> = (0..100).map(|vm| format!("vm{vm:03}")).collect();
    let header = format!("t_s,{}\n", names.join(","));
    let line = |time: u32, value: &str| format!("{time},{}\n", vec![value; 100].join(","));
    let good = format!("{header}{}{}", line(0, "1.5"), line(300, "100"));
    let rows: Vec<Sample> = parse(&good).expect("the file is good");
    assert_eq!(rows[0].cpu_mpercent[99], 1_500);
    assert_eq!(
        error::<Sample>(good.replace("300,100", "600,100")),
        "trace.csv:3: column `t_s`: expected 300, 300 s after the last, found `600`"
    );
    assert_eq!(
        error::<Sample>(good.replace("300,100,", "300,100.5,")),
        "trace.csv:3: column `vm000`: expected a percentage from 0 to 100 with at most three \
         decimals, found `100.5`"
    );
    assert_eq!(
        error::<VmNumber>("col,azure_vm_id\nvm000,7\nvm002,9\n"),
        "trace.csv:3: column `col`: expected `vm001`, found `vm002`"
    );
}
