"""Result files: one HDF5/netCDF-4 file per experiment and network, atomic, resumable, labelled.

Any of ``h5py.File(path)``, ``xarray.open_dataset(path)`` and HDFView opens them. A final name never
denotes an incomplete file: small results are written by `save`, and a `Store` keeps the parts of
those that take long. Every numeric variable has checksums, and so has the file as a whole, which
`load` compares. The root attributes (`provenance`) say how the numbers came about, and `reuse`
decides from them whether an existing file answers the present question.
"""

from geomadv.files.writing import check_writable
from geomadv.results.files import load, save
from geomadv.results.handing import export_perturbation, to_dataframe
from geomadv.results.identity import differences, digest
from geomadv.results.provenance import provenance
from geomadv.results.reuse import reuse, stored_identity
from geomadv.results.shared import SharedKeep
from geomadv.results.store import Store
from geomadv.results.workarea import unfinished

__all__ = [
    "SharedKeep",
    "Store",
    "check_writable",
    "differences",
    "digest",
    "export_perturbation",
    "load",
    "provenance",
    "reuse",
    "save",
    "stored_identity",
    "to_dataframe",
    "unfinished",
]
