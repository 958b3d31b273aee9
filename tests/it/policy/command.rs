//! `lethed policy`: what it says of sound and of faulty policies, and who may do what.

use std::process::Command;

use lethe::authz::BUILT_IN_POLICY;

/// What `lethed policy` says on standard output and standard error, and its exit code.
fn lethed(args: &[&str]) -> (String, String, i32) {
    let ran = Command::new(env!("CARGO_BIN_EXE_lethed")).arg("policy").args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(ran.stdout), text(ran.stderr), ran.status.code().unwrap())
}

#[test]
fn the_command_checks_and_shows_policies() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("v");
    let now = lethe::clock::Clock::now(&lethe::clock::SystemClock);
    lethe::server::DevDir::prepare(&dir, Some("127.0.0.1:0".parse().unwrap()), now).unwrap();
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (policy, config) = (at("policy.cedar"), at("lethed.toml"));
    let (printed, _, code) = lethed(&["print"]);
    assert_eq!((printed.as_str(), code), (BUILT_IN_POLICY, 0));
    assert!(lethed(&["print", "--schema"]).0.contains("action \"SeeClear\""));

    std::fs::write(&policy, &printed).unwrap();
    let (said, error, code) = lethed(&["check", &policy]);
    assert_eq!((error.as_str(), code), ("", 0));
    assert!(
        said.starts_with(&format!("{policy}: 8 policies, ")) && said.contains("SHA-256 "),
        "{said}"
    );
    let stranger = "permit (principal == Identity::\"spiffe://dev.lethe/x\", action in [Action::\"Read\"], resource);";
    std::fs::write(&policy, format!("{printed}{stranger}\n")).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[policy]\nfile = \"policy.cedar\"\n")).unwrap();
    let (said, _, code) = lethed(&["check", "--config", &config]);
    assert!(code == 0 && said.contains(": 4 identities\n"), "{said}");
    let note = "note: the policy names spiffe://dev.lethe/x, which no [[identity]] binds";
    assert!(said.contains(note), "{said}");

    let (table, _, code) = lethed(&["table", "--config", &config, "--output", "json"]);
    assert_eq!(code, 0);
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    assert_eq!(table["policy_sha256"].as_str().unwrap().len(), 64);
    let rights = table["rights"].as_array().unwrap();
    let rights = |name: &str| -> Vec<&serde_json::Value> {
        let identity = format!("spiffe://dev.lethe/{name}");
        rights.iter().filter(|r| r["identity"] == identity).collect()
    };
    let all =
        |name: &str| rights(name).iter().map(|r| r["actions"].to_string()).collect::<String>();
    assert!(all("application").contains("ReadRecord") && !all("auditor").contains("Record"));
    assert!(all("auditor").contains("ReadKeyStatus") && !all("auditor").contains("RotateKey"));
    let reads = rights("application").into_iter().find(|r| r["types"][0] == "*").unwrap();
    assert_eq!((&reads["tenants"][0], &reads["role"]), (&"*".into(), &"application".into()));
    let (text, _, code) = lethed(&["table", "--config", &config]);
    assert!(
        code == 0 && text.contains("RotateKey") && text.contains("SHA-256 of the policy: "),
        "{text}"
    );

    let faulty = "permit (principal, action, resource);\n\nforbid (principal, action, resource in Tenant::\"X\");\n";
    std::fs::write(&policy, faulty).unwrap();
    for args in [
        vec!["check", &policy],
        vec!["check", "--config", &config],
        vec!["table", "--config", &config],
    ] {
        let (said, error, code) = lethed(&args);
        assert_eq!(code, 1, "{said}");
        for fault in [
            "line 1: permits it to everybody",
            "line 1: permits every action",
            "line 3: Tenant::\"X\": must",
        ] {
            assert!(said.contains(&format!("{policy}: {fault}")), "{said}");
        }
        assert!(error.starts_with("lethed: ") && error.contains("(and 2 more)"), "{error}");
    }
    assert_eq!(lethed(&["check"]).2, 2);
    let (_, error, code) = lethed(&["check", &at("absent")]);
    assert!(code == 1 && error.contains("No such file"), "{error}");
}
