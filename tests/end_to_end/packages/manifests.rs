//! `dist/compose.yaml`, `dist/kubernetes/` and the plist: what they name is there, and the programs
//! take it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use snowbank_harness::{
    Scratch,
    postgres::Postgres,
    process,
    s3::{self, S3Server},
};
use yaml_rust2::Yaml;

use super::{items, named, output, read, root, text, yaml};

/// Variables that a text names as `${NAME…}`.
fn variables(text: &str) -> BTreeSet<&str> {
    let rest = text.split("${").skip(1);
    rest.map(|rest| {
        rest.split(|c: char| !c.is_ascii_uppercase() && c != '_' && !c.is_ascii_digit())
            .next()
            .unwrap()
    })
    .collect()
}

#[test]
fn the_server_of_the_compose_file_starts_with_its_settings() {
    let file = yaml("dist/compose.yaml");
    let services = &file["services"];
    let server = &services["snowbank"];
    let mounted = &items(&server["configs"])[0];
    assert_eq!(text(&mounted["target"]), "/etc/snowbank/snowbankd.toml");
    let config = text(&file["configs"][text(&mounted["source"])]["content"]);
    let garage: toml::Table = toml::from_str(text(&file["configs"]["garage"]["content"])).unwrap();
    let settings: toml::Table = toml::from_str(config).unwrap();
    let storage = &settings["storage"];
    assert_eq!(storage["region"], garage["s3_api"]["s3_region"]);
    assert_eq!(storage["endpoint"].as_str(), Some("http://garage:3900"));
    assert_eq!(garage["s3_api"]["api_bind_addr"].as_str(), Some("[::]:3900"));
    let environment = &services["garage"]["environment"];
    assert_eq!(Some(text(&environment["GARAGE_DEFAULT_BUCKET"])), storage["bucket"].as_str());
    assert_eq!(items(&server["ports"]), [Yaml::String("127.0.0.1:8080:8080".into())]);

    // Volumes and conditions name what there is, and docs/installing.md makes all that `.env` has.
    for (name, service) in services.as_hash().unwrap() {
        for volume in items(&service["volumes"]) {
            let volume = text(volume).split(':').next().unwrap();
            assert!(!file["volumes"][volume].is_badvalue(), "{name:?}: {volume}");
        }
    }
    for (name, _) in server["depends_on"].as_hash().unwrap() {
        assert!(services[text(name)].as_hash().is_some(), "{name:?}");
    }
    let installing = read("docs/installing.md");
    for variable in variables(&read("dist/compose.yaml")) {
        assert!(installing.contains(&format!("{variable}=")), "{variable}");
    }
    assert!(
        root()
            .join("dist")
            .join(text(&server["build"]["context"]))
            .join(text(&server["build"]["dockerfile"]))
            .is_file()
    );

    // With a database and a bucket in the places of the others.
    let (postgres, bucket, scratch) =
        (Postgres::start(), S3Server::start(), Scratch::new("compose"));
    let address = process::own_address();
    let own = config
        .replace("[::]:8080", &address.to_string())
        .replace("http://garage:3900", &format!("http://{}", bucket.address()));
    fs::write(scratch.join("snowbankd.toml"), own).unwrap();
    let mut command = process::command(process::binary("snowbankd"), scratch.path());
    command.env("SNOWBANKD_CONFIG", scratch.join("snowbankd.toml"));
    command.env("SNOWBANKD_DATA_DIR", scratch.join("data"));
    for (name, value) in server["environment"].as_hash().unwrap() {
        let value = match text(name) {
            "SNOWBANKD_DATABASE_URL" => postgres.create_database("snowbank"),
            "AWS_ACCESS_KEY_ID" => s3::ACCESS_KEY_ID.to_owned(),
            "AWS_SECRET_ACCESS_KEY" => s3::SECRET_ACCESS_KEY.to_owned(),
            other => panic!("{other}: {value:?} needs something in its place"),
        };
        command.env(text(name), value);
    }
    serve(command, &format!("http://{address}/readyz"));
}

/// Starts a server, waits until it answers `url`, and ends it.
fn serve(command: std::process::Command, url: &str) {
    let mut server = process::Running::start(command, &[]);
    let (started, mut ready) = (Instant::now(), false);
    while !ready && !server.is_done() && started.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(20));
        ready = reqwest::blocking::get(url).is_ok_and(|answer| answer.status().is_success());
    }
    server.signal(Signal::TERM);
    let output = server.wait();
    assert!(ready && output.status.success(), "{output}");
}

#[test]
fn the_kubernetes_manifests_fit_together() {
    let [deployment, service, config, claim] =
        ["deployment", "service", "configmap", "persistent-volume-claim"]
            .map(|name| yaml(&format!("dist/kubernetes/{name}.yaml")));
    let pod = &deployment["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&service["spec"]["selector"], labels);

    let container = &items(&pod["spec"]["containers"])[0];
    let ports = &container["ports"];
    for port in items(&service["spec"]["ports"]) {
        assert!(named(ports, text(&port["targetPort"]))["containerPort"].as_i64().is_some());
    }
    let settings: toml::Table = toml::from_str(text(&config["data"]["snowbankd.toml"])).unwrap();
    for (name, address) in
        [("http", &settings["listen"]), ("metrics", &settings["metrics"]["listen"])]
    {
        let port = named(ports, name)["containerPort"].as_i64().unwrap();
        assert_eq!(address.as_str(), Some(format!("[::]:{port}").as_str()));
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(text(&container[probe]["httpGet"]["port"]), "http");
    }

    // Every mount has its volume, and every volume its object.
    let (volumes, mounts) = (&pod["spec"]["volumes"], &container["volumeMounts"]);
    for mount in items(mounts) {
        let _ = named(volumes, text(&mount["name"]));
    }
    let claim_name = &named(volumes, "data")["persistentVolumeClaim"]["claimName"];
    assert_eq!(claim_name, &claim["metadata"]["name"]);
    assert_eq!(&named(volumes, "config")["configMap"]["name"], &config["metadata"]["name"]);
    let secret = text(&named(volumes, "secrets")["secret"]["secretName"]);
    let installing = read("docs/installing.md");
    assert!(
        installing
            .contains(&format!("kubectl create secret generic {secret} --from-file=server-key"))
    );
    assert_eq!(text(&named(mounts, "config")["mountPath"]), "/etc/snowbank/snowbankd.toml");
    let secrets = text(&named(mounts, "secrets")["mountPath"]);
    let key = Path::new(settings["server-key-file"].as_str().unwrap());
    assert_eq!(key.parent(), Some(Path::new(secrets)));

    // What the standard "restricted" asks for.
    let (of_pod, own) = (&pod["spec"]["securityContext"], &container["securityContext"]);
    assert_eq!(of_pod["runAsNonRoot"].as_bool(), Some(true));
    assert_eq!(of_pod["seccompProfile"]["type"].as_str(), Some("RuntimeDefault"));
    assert_eq!(own["allowPrivilegeEscalation"].as_bool(), Some(false));
    assert_eq!(own["readOnlyRootFilesystem"].as_bool(), Some(true));
    assert_eq!(items(&own["capabilities"]["drop"]), [Yaml::String("ALL".into())]);
}

/// Settings in comments are ones that the server takes.
#[test]
fn the_commented_settings_for_several_replicas_are_keys_of_the_config_file() {
    let config = yaml("dist/kubernetes/configmap.yaml");
    let lines = text(&config["data"]["snowbankd.toml"]).lines();
    // A setting or a section, as against a sentence.
    let (mut section, mut count) = (String::new(), 0);
    let example = read("config.example.toml");
    for line in lines.filter_map(|line| line.strip_prefix("# ")) {
        if line.starts_with('[') && line.ends_with(']') {
            section = line.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            let keys = if section.is_empty() {
                example.split("\n[").next()
            } else {
                let from = example.split_once(&format!("\n{section}\n")).map(|(_, rest)| rest);
                from.and_then(|rest| rest.split("\n[").next())
            };
            let keys = keys.unwrap_or_else(|| panic!("no section {section}"));
            assert!(keys.contains(&format!(" {key} = ")), "{section} {key}");
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn the_plist_runs_what_the_unit_runs() {
    let scratch = Scratch::new("plist");
    let program =
        "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let file = root().join("dist/snowbank-queue.plist");
    let plist: serde_json::Value = serde_json::from_str(&output(
        "python3",
        &["-c", program, file.to_str().unwrap()],
        &scratch,
    ))
    .unwrap();
    assert_eq!(plist["Label"], "snowbank-queue");
    let unit = read("dist/snowbank-queue.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = start.split(' ').collect();
    assert_eq!(plist["ProgramArguments"], serde_json::json!(words));
    let mut command = process::command(process::binary("snowbank"), scratch.path());
    command.args(&words[1..]).arg("--help");
    process::run(command).succeeds();
}
