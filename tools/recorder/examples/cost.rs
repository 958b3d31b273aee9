//! Prints what a crash image of a 2 MiB store costs: `cargo run --release -p lethe-recorder
//! --example cost`.

use lethe_recorder::event::Mode;
use lethe_recorder::{
    CrashImages, Event, FileId, Log, MetadataRule, SyncKind, Variant, crash_points,
};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = std::env::temp_dir().join(format!("lethe-cost-{}", std::process::id()));
    let file = FileId(1);
    let mut events = vec![Event::BaseFile { file, path: "a".into() }];
    for i in 0..512u64 {
        let data = vec![i as u8 | 1; 4096].into();
        events.push(Event::Write { file, offset: i * 4096, mode: Mode::default(), data });
        if i % 4 == 0 {
            events.push(Event::SyncStart { id: i, file, kind: SyncKind::Fsync });
            events.push(Event::SyncEnd { id: i, errno: 0 });
        }
    }
    let log = Log { roots: vec!["/d".into()], events, torn: false };
    let mut images = CrashImages::new(&log, MetadataRule::Ext4Like);
    let points = crash_points(&log, 0, 0);
    let begun = Instant::now();
    for point in &points {
        images.materialise(*point, Variant::Random(*point as u64), &target)?;
    }
    println!("{} images, {:?} each", points.len(), begun.elapsed() / points.len() as u32);
    Ok(std::fs::remove_dir_all(&target)?)
}
