//! Compiles the proto files without a system protoc, and keeps their descriptors for reflection.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let public = [
        "withheld/v1/common.proto",
        "withheld/v1/visibility.proto",
        "withheld/v1/order.proto",
        "withheld/v1/protection.proto",
        "withheld/v1/report.proto",
        "withheld/v1/audit.proto",
        "withheld/v1/journal.proto",
        "withheld/v1/error.proto",
    ];
    let stored = ["withheld/journal/v1/journal.proto"];
    // gRPC's own, with the method `List`, which the crate for it lacks.
    let health = ["grpc/health/v1/health.proto"];
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=data");
    let descriptors = protox::compile(public.iter().chain(&stored).chain(&health), ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    for (files, name) in
        [(public.as_slice(), "withheld.v1.bin"), (&stored, "withheld.journal.v1.bin"), (&health, "grpc.health.v1.bin")]
    {
        let described = protox::compile(files, ["proto"])?;
        std::fs::write(out.join(name), prost::Message::encode_to_vec(&described))?;
    }
    // Maps in order, so that the same entry is the same bytes in every process.
    let mut config = prost_build::Config::new();
    // Requests are counted before they are decoded, by their names.
    config.enable_type_names();
    tonic_prost_build::configure()
        .btree_map(".withheld.journal.v1")
        .codec_path("withheld::codec::BoundedCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
