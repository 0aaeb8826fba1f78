//! The options of the engine that are refused before a broker connects to it.

use super::support::{TempDir, run};

/// Starts a broker, which must fail as a usage error, and returns what it said.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let (code, out, err) = run(&[&["--no-auth", "--port", "0"], arguments].concat(), environment);
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    err
}

#[test]
fn a_refused_option_is_explained() {
    let password = ("ESKER_ENGINE_PASSWORD", "s3cret");
    for (arguments, environment, part) in [
        (&["--engine", "localhost"][..], &[][..], "--engine must be a URL such as redis://127.0.0.1:6379"),
        (&["--engine", "redis+unix:///run/redis.sock"], &[], "use the server's TCP port"),
        (&["--engine", "redis://h?db=1"], &[], "--engine-ca and ESKER_ENGINE_PASSWORD for everything else"),
        (&["--engine", "redis://h", "--engine-ack", "replicas:0"], &[], "give reply, fsync, or replicas:N"),
        (&["--engine", "redis://h", "--engine-prefix", "a{b}"], &[], "--engine-prefix must be 1 to 64"),
        (
            &["--engine", "redis://h", "--engine-ca", "f"],
            &[],
            "--engine-ca requires TLS; begin --engine with rediss://",
        ),
        (&["--engine", "redis://h", "--max-body", "257M"], &[], "--max-body must be at most 256M with --engine"),
        (&["--engine-prefix", "x"], &[], "--engine-prefix requires --engine"),
        (&[], &[password], "ESKER_ENGINE_PASSWORD requires --engine"),
        (&["--engine", "redis://user@h"], &[], "there is no password; set ESKER_ENGINE_PASSWORD"),
    ] {
        let error = refused(arguments, environment);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    assert!(!std::path::Path::new("esker-data").exists());
}

#[test]
fn a_refused_password_is_never_shown() {
    let dir = TempDir::new();
    let file = dir.path.join("password");
    std::fs::write(&file, "s3cret\n").expect("it can be written");
    let (file, missing) = (file.display().to_string(), dir.path.join("missing").display().to_string());
    let with_url = &["--engine", "redis://:s3cret@h"][..];
    for (arguments, environment, part) in [
        (with_url, &[("ESKER_ENGINE_PASSWORD", "s3cret")][..], "in the URL of --engine and in ESKER_ENGINE_PASSWORD"),
        (with_url, &[("ESKER_ENGINE_PASSWORD_FILE", file.as_str())], "set only one"),
        (&["--engine", "redis://:s3cret/@h"], &[], "/ as %2F"),
        (&["--engine", "redis://s3cret@h"], &[], "redis://:PASSWORD@HOST"),
        (&["--engine-password", "s3cret"], &[], "set the environment variable ESKER_ENGINE_PASSWORD"),
        (&[], &[("ESKER_ENGINE", "s3cret")], "--engine must be a URL"),
        (&[], &[("ESKER_ENGINE_PASSWORD_FILE", missing.as_str())], "missing can't be read"),
    ] {
        let error = refused(arguments, environment);
        assert!(error.contains(part) && !error.contains("s3cret"), "{arguments:?}: {error}");
    }
}
