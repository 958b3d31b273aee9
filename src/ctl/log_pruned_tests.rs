//! Exported folders of an audit log whose beginning was pruned.

use super::*;

#[test]
fn a_folder_that_lacks_the_log_s_beginning_verifies_where_the_log_says_that_it_was_pruned() {
    for (size, minimum) in [(600, 512), (66_300, 257 * 256)] {
        let made = Made::pruned(size, minimum);
        let mut desk = Desk::new(&made);
        made.export_from(&desk.path("log"), size, minimum);
        let told: Json = serde_json::from_str(&desk.folder().unwrap()).unwrap();
        assert_eq!((&told["size"], &told["minimum_index"]), (&json!(size), &json!(minimum)));
        // It is there from its beginning as well.
        let whole = Desk::new(&made);
        made.export(&whole.path("log"), size);
        let told: Json = serde_json::from_str(&whole.folder().unwrap()).unwrap();
        assert_eq!(told["minimum_index"], json!(0));
        // Each bit of what stays of it counts.
        let kept = Tile::all_since(0, size).filter(|tile| !tile.is_pruned(minimum));
        for path in kept.map(|tile| desk.path("log").join(tile.to_string())) {
            let good = std::fs::read(&path).unwrap();
            for at in (0..good.len()).step_by(good.len().div_ceil(7)).chain([good.len() - 1]) {
                let mut other = good.clone();
                other[at] ^= 1 << (at % 8);
                std::fs::write(&path, &other).unwrap();
                assert!(desk.folder().is_err(), "{path:?} byte {at}");
            }
            std::fs::remove_file(&path).unwrap();
            refused(desk.folder(), "is missing");
            std::fs::write(&path, &good).unwrap();
        }
        // Another beginning than the one that is there, or none that could be.
        let later = (minimum + 256).to_string();
        let earlier = (minimum - 256).to_string();
        for (text, why) in [
            (earlier.as_str(), "is missing"),
            (later.as_str(), if minimum + 256 > size { "does not fit" } else { "no entry says" }),
            ("1", "minimum_index does not fit"),
            ("x", "minimum_index is not a number"),
            ("", "minimum_index is not a number"),
        ] {
            desk.save("log/minimum_index", &format!("{text}\n"));
            refused(desk.folder(), why);
        }
        std::fs::remove_file(desk.path("log/minimum_index")).unwrap();
        refused(desk.folder(), "tile/entries/000 is missing");
        desk.save("log/minimum_index", &format!("{minimum}\n"));
        // Against a checkpoint of before: of what is not there nothing is said.
        for old in [minimum, minimum + 1, size - 1] {
            desk.since = Some(desk.save("old", &made.note(old)));
            desk.folder().unwrap();
        }
        desk.since = Some(desk.save("old", &made.note(minimum - 1)));
        refused(desk.folder(), "the earlier checkpoint ends before that");
    }
    // Somebody took away more than was pruned, or nothing was.
    for says in [0, 256] {
        let made = if says == 0 { Made::new(SIZE, 1) } else { Made::pruned(SIZE, says) };
        let desk = Desk::new(&made);
        made.export_from(&desk.path("log"), SIZE, 512);
        refused(desk.folder(), "it begins at entry 512, and no entry says");
    }
}
