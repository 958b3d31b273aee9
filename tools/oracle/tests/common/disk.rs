//! A recorded disk, and the field map of a record (FORMAT section 5.1).

use std::collections::BTreeMap;

/// A history of writes, and the bytes of each file as they are now.
#[derive(Default)]
pub struct Disk {
    pub history: Vec<u8>,
    pub files: BTreeMap<u32, Vec<u8>>,
}

impl Disk {
    pub fn write(&mut self, file: u32, offset: usize, bytes: &[u8]) {
        self.history.extend(file.to_be_bytes());
        self.history.extend((offset as u64).to_be_bytes());
        self.history.extend((bytes.len() as u32).to_be_bytes());
        self.history.extend(bytes);
        let image = self.files.entry(file).or_default();
        image.resize(image.len().max(offset + bytes.len()), 0);
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub fn append(&mut self, file: u32, bytes: &[u8]) {
        let end = self.files.get(&file).map_or(0, Vec::len);
        self.write(file, end, bytes);
    }
}

/// What stands for a subject in the audit log.
pub fn subject_ref(subject: [u8; 16]) -> [u8; 16] {
    subject.map(|byte| byte ^ 0x5a)
}

/// What stands for a record with this text.
pub fn record_ref(text: &str) -> [u8; 16] {
    let mut out = [0xee; 16];
    out.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    out
}

/// A padded field map with one text field, padded by the rule of section 5.1.
pub fn field_map(subject: [u8; 16], text: &str) -> Vec<u8> {
    let (subject_ref, record_ref) = (subject_ref(subject), record_ref(text));
    let mut body =
        [&subject[..], &subject_ref, &record_ref, &[0; 24], &[0, 1], &[0, 4, 1]].concat();
    body.extend((text.len() as u32).to_be_bytes());
    body.extend(text.as_bytes());
    let mut out = (body.len() as u32).to_be_bytes().to_vec();
    out.extend(body);
    let len = out.len();
    let step = if len <= 1_024 {
        64
    } else {
        let e = (len as f64).log2().floor();
        let s = e.log2().floor() + 1.0;
        2f64.powf(e - s) as usize
    };
    out.resize(len.div_ceil(step) * step, 0);
    out
}
