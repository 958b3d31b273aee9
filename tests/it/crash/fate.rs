//! What the worker was answered, line by line, and what must therefore be true of every record.
//!
//! Lines: `C id op` created; `u id op` an update is asked for; `U id op` and answered; `e id` an erasure is asked for;
//! `E id` and answered; `b` a kill of the bucket of visits is asked for; `B` and answered. `V id op` is a created
//! visit; `t` days pass, so that request ids of before are forgotten; `p` new rules on customers are asked for, so that
//! they move; `h id` a hold on it is asked for, `H id` and answered; `q id` its erasure is asked for while it is held,
//! `Q id` and answered as postponed; `r id` the hold's end is asked for. `K log size root` a checkpoint was handed out
//! (see trees.rs).

use std::collections::BTreeMap;

use lethe::audit::Act;
use lethe::class::Role;
use lethe::crypto::merkle::leaf_hash;
use lethe::id::RecordId;
use lethe::vault::{Vault, VaultError};

use super::worker::made_by;
use crate::house::{TENANT, app, get, permit, text};

/// What must be true of a record.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// Its note is one of these.
    pub notes: Vec<String>,
    pub may_be_gone: bool,
    pub must_be_gone: bool,
    visit: bool,
    /// A hold keeps it: no kill and no erasure reaches it.
    held: bool,
    /// It was held once, so that nobody can say in which bucket it is.
    loose: bool,
    /// Its erasure was asked for, and may be postponed; or it is.
    may_wait: bool,
    waits: bool,
    /// Its first version may have moved, and with it what its request id could be compared with.
    pub moved: bool,
    /// The operation that created it and was answered, while its request id is remembered.
    pub made: Option<String>,
}

/// What must be true of all records after these lines.
pub fn fates(lines: &str) -> BTreeMap<RecordId, Fate> {
    let mut all = BTreeMap::<RecordId, Fate>::new();
    let mut before_kill: Vec<RecordId> = Vec::new();
    let (mut kill_asked, mut rules_asked) = (false, false);
    for line in lines.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let id = words.next().and_then(RecordId::parse);
        let op = words.next().unwrap_or_default().to_owned();
        match (kind, id) {
            ("C" | "V", Some(id)) => {
                let visit = kind == "V";
                let may_be_gone = visit && kill_asked;
                let (made, notes) = (Some(op.clone()), vec![op]);
                let moved = !visit && rules_asked;
                all.insert(id, Fate { notes, visit, may_be_gone, moved, made, ..Fate::default() });
            }
            ("u", Some(id)) => all.entry(id).or_default().notes.push(op),
            ("U", Some(id)) => all.entry(id).or_default().notes.retain(|n| *n == op),
            ("e", Some(id)) => all.entry(id).or_default().may_be_gone = true,
            ("E", Some(id)) => all.entry(id).or_default().must_be_gone = true,
            ("h", Some(id)) => {
                let fate = all.entry(id).or_default();
                (fate.loose, fate.moved) = (true, true);
            }
            ("H", Some(id)) => {
                let fate = all.entry(id).or_default();
                (fate.held, fate.may_be_gone) = (true, false);
            }
            ("q", Some(id)) => {
                let fate = all.entry(id).or_default();
                (fate.may_wait, fate.made) = (true, None);
            }
            ("Q", Some(id)) => all.entry(id).or_default().waits = true,
            ("r", Some(id)) => {
                let fate = all.entry(id).or_default();
                (fate.held, fate.waits) = (false, false);
                fate.may_be_gone = fate.may_wait || (fate.visit && kill_asked);
            }
            ("t", _) => all.values_mut().for_each(|f| f.made = None),
            ("p", _) => {
                rules_asked = true;
                all.values_mut().filter(|f| !f.visit).for_each(|f| f.moved = true);
            }
            ("b", _) => {
                kill_asked = true;
                before_kill = all.iter().filter(|(_, f)| f.visit).map(|(i, _)| *i).collect();
                let reached = |f: &&mut Fate| f.visit && !f.held;
                all.values_mut().filter(reached).for_each(|f| f.may_be_gone = true);
            }
            ("B", _) => {
                kill_asked = false;
                for id in before_kill.drain(..) {
                    let fate = all.entry(id).or_default();
                    fate.must_be_gone |= !fate.loose;
                }
            }
            ("K", _) => {}
            _ => panic!("a line of no known kind: {line}"),
        }
    }
    all
}

/// Compares an open vault with what must be true; says what is wrong.
pub fn check(vault: &Vault, fates: &BTreeMap<RecordId, Fate>) -> Result<(), String> {
    for (id, fate) in fates {
        match get(vault, *id) {
            Ok(view) => {
                let note = text(&view, "note").unwrap_or_default();
                if fate.must_be_gone {
                    return Err(format!("{id} was erased and opens"));
                }
                if fate.waits {
                    return Err(format!("{id}: its erasure was postponed, and it is served"));
                }
                if !fate.notes.iter().any(|n| n == note) {
                    return Err(format!("{id} has note {note}, not one of {:?}", fate.notes));
                }
            }
            Err(VaultError::Erased(_) | VaultError::NotFound(_))
                if fate.must_be_gone || fate.may_be_gone => {}
            Err(VaultError::Restricted) if fate.may_wait && !fate.must_be_gone => {}
            Err(e) => return Err(format!("{id} ({fate:?}): {e}")),
        }
    }
    Ok(())
}

/// Asks again for everything that a worker created: each call has its first effect and no second one, and what was
/// erased does not come back as another record.
pub async fn repeat(vault: &Vault, fates: &BTreeMap<RecordId, Fate>) -> Result<(), String> {
    for (id, fate) in fates {
        let Some(made) = &fate.made else { continue };
        let gone = get(vault, *id).is_err();
        match vault.create_record(&app(), TENANT, made_by(made)).await {
            Ok(view) if view.id == *id && !gone => {}
            Ok(view) => return Err(format!("the request that made {id} made {}", view.id)),
            Err(VaultError::Erased(_) | VaultError::NotFound(_)) if gone => {}
            Err(e) => return Err(format!("the request that made {id} ({fate:?}): {e}")),
        }
    }
    Ok(())
}

/// The audit log is whole, its head is over exactly its entries, and it tells of everything that was created and
/// answered.
pub async fn log_holds(vault: &Vault, fates: &BTreeMap<RecordId, Fate>) -> Result<(), String> {
    let failed = |e: VaultError| format!("the audit log: {e}");
    let signed = vault.audit_head(&permit(Role::Auditor, None)).await.map_err(failed)?;
    let (mut tree, mut told) = (signed.pruned.clone(), 0);
    let pruned = tree.size();
    let mut said = 0;
    while tree.size() < signed.head.size {
        let of = permit(Role::Auditor, None);
        let part = vault.audit_part(&of, tree.size(), signed.head.size).map_err(failed)?;
        for line in part {
            let told_of = line.told.ok_or(format!("entry {} is lost", line.index))?;
            tree.push(leaf_hash(&told_of.leaf));
            told += usize::from(told_of.entry.act == Act::CreateRecord);
            said = said.max(told_of.entry.minimum_index().unwrap_or_default());
        }
    }
    if tree.root() != signed.head.root {
        return Err("the audit log's entries are not those of its head".to_owned());
    }
    if said != pruned {
        return Err(format!("the log begins at {pruned}, and says that it does at {said}"));
    }
    let made = fates.values().filter(|f| f.made.is_some()).count();
    if pruned == 0 && told < made {
        return Err(format!("{made} records were created, the log tells of {told}"));
    }
    Ok(())
}

#[test]
fn lines_are_read_as_they_are_meant() {
    let id = |n: u8| lethe::id::RecordId([n; 16]);
    let text = format!(
        "C {} 1\nu {} 2\nV {} 3\nb\nV {} 4\nB\ne {} \nC {} 5\nE {}\nC half",
        id(1),
        id(1),
        id(2),
        id(3),
        id(4),
        id(4),
        id(4)
    );
    // The line that a crash cut off does not count; the erased record's lines came in another order.
    let all = fates(&text);
    assert_eq!(all[&id(1)].notes, ["1", "2"]);
    assert!(all[&id(2)].must_be_gone && all[&id(3)].may_be_gone && !all[&id(3)].must_be_gone);
    assert!(all[&id(4)].must_be_gone && all.len() == 4);
}
