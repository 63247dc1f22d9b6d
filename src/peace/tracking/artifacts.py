"""What a command made or used, as Weights & Biases artifacts: their names, contents and kinds.

Weights are told by reference, a path that nothing is read from or uploaded from. What says whether such a file changed
is the small file beside it that holds its hash (a zoo's manifest, an embedder's description), which is uploaded: two
artifacts of one name and place are one version if and only if those are equal. Whoever uses an artifact builds it anew
from the same files, and so names the version that its maker logged, without asking a server.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import wandb


@dataclass(frozen=True)
class Artifact:
    """Files of one kind under a name.

    Attributes:
        kind: What it is called, such as `zoo`; W&B's type.
        name: Unique among all kinds of a project.
        files: What is uploaded.
        references: Files or folders of which only the path is told.
        metadata: Hashes and counts to show beside it.
    """

    kind: str
    name: str
    files: tuple[Path, ...]
    references: tuple[Path, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def built(self) -> "wandb.Artifact":
        """Returns it as wandb's own, not logged yet."""
        import wandb

        artifact = wandb.Artifact(self.name, self.kind, metadata=dict(self.metadata))
        for path in self.files:
            # Immutable: not copied into a staging folder first; each file is replaced as a whole, never written into.
            artifact.add_file(str(path.resolve()), name=path.name, policy="immutable")
        for path in self.references:
            # No checksum: it would read all weights to find what the hash beside them says already.
            artifact.add_reference(path.resolve().as_uri(), name=path.name, checksum=False)
        return artifact


def zoo(folder: Path, **metadata: Any) -> Artifact:  # noqa: ANN401 - what JSON can hold
    """Returns the zoo `<name>/<fingerprint>` in a folder: its manifest, and its weights by reference."""
    return Artifact("zoo", _name("zoo", folder, 2), (folder / "manifest.parquet",), (folder / "weights",), metadata)


def embedder(run: Path, experiment: str, **metadata: Any) -> Artifact:  # noqa: ANN401
    """Returns the embedder of a run directory: its description with its hash, and its tensors by reference."""
    folder = run / "embedder"
    files = (folder / "embedder.json",), (folder / "embedder.safetensors",)
    return Artifact("model", _name("embedder", run, 2 + _depth(experiment)), *files, metadata)


def embeddings(run: Path, experiment: str, *files: Path, **metadata: Any) -> Artifact:  # noqa: ANN401
    """Returns the embedding tables, or the ranking, of a run directory."""
    return Artifact("embeddings", _name("embeddings", run, 2 + _depth(experiment)), files, (), metadata)


def index(run: Path, experiment: str, **metadata: Any) -> Artifact:  # noqa: ANN401
    """Returns the index of a run directory: its description with its hashes, and the rest by reference."""
    folder = run / "index"
    files = (folder / "index.json",), (folder / "index.faiss", folder / "rows.parquet")
    return Artifact("index", _name("index", run, 2 + _depth(experiment)), *files, metadata)


def table(experiment: str, *files: Path, **metadata: Any) -> Artifact:  # noqa: ANN401
    """Returns the tables of an experiment."""
    return Artifact("table", _name("table", Path(experiment), _depth(experiment)), files, (), metadata)


def _depth(experiment: str) -> int:
    """How many folders an experiment's name has."""
    return len(Path(experiment).parts)


def _name(kind: str, folder: Path, parts: int) -> str:
    """A name of at most 128 letters that wandb takes, from the last parts of a path; of a long one its end is kept."""
    rest = re.sub(r"[^\w.-]", "_", "-".join(folder.parts[-parts:]), flags=re.ASCII)
    return f"{kind}-{rest[-(127 - len(kind)) :]}"
