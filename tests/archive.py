# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives and images for the import tests, good and hostile."""
import gzip
import hashlib
import io
import json
import os
import tarfile

BUSYBOX = "/bin/busybox"


def entry(name, data=b"", kind=tarfile.REGTYPE, mode=0o755, link="", **more):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def tar(entries, **more):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=more.get("format", tarfile.GNU_FORMAT)) as file:
        for info, data in entries:
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def system(extra=()):
    """A root tarball that boots: busybox and its init."""
    with open(BUSYBOX, "rb") as file:
        busybox = file.read()
    folders = [entry(name, kind=tarfile.DIRTYPE) for name in
               ("bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "var")]
    links = [entry("bin/" + name, kind=tarfile.SYMTYPE, link="busybox") for name in
             ("sh", "true", "cat", "ls", "sleep", "echo", "poweroff", "stat")]
    return folders + [entry("bin/busybox", busybox)] + links + [
        entry("sbin/init", kind=tarfile.SYMTYPE, link="../bin/busybox"),
        entry("etc/inittab", b"::sysinit:/bin/true\n", mode=0o644),
        entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)] + list(extra)


def blob(folder, data):
    digest = hashlib.sha256(data).hexdigest()
    os.makedirs(os.path.join(folder, "blobs/sha256"), exist_ok=True)
    with open(os.path.join(folder, "blobs/sha256", digest), "wb") as file:
        file.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def oci(folder, layers, config=None, media="application/vnd.oci.image.layer.v1.tar+gzip",
        pack=gzip.compress, tag="latest", spoil=None):
    """An OCI layout of the given tars (lowest first).  spoil(manifest, config) may lie."""
    os.makedirs(folder, exist_ok=True)
    packed = [{"mediaType": media, **blob(folder, pack(layer))} for layer in layers]
    image = {"architecture": "amd64", "os": "linux",
             "config": config or {"Cmd": ["/bin/sh"]},
             "rootfs": {"type": "layers", "diff_ids":
                        ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "layers": packed}
    if spoil:
        spoil(manifest, image)
    manifest["config"] = {"mediaType": "application/vnd.oci.image.config.v1+json",
                          **blob(folder, json.dumps(image).encode())}
    index = {"schemaVersion": 2, "manifests": [
        {"mediaType": manifest["mediaType"], **blob(folder, json.dumps(manifest).encode()),
         "annotations": {"org.opencontainers.image.ref.name": tag}}]}
    for name, value in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(value, file)
    return folder
