"""Every error a user can meet. Each message says what was wrong, what was given, what is allowed, and where.

NeuromodError                     the user can fix it: one line, exit code 2
├── UnknownName                   no effect, pack, model ... of that name (suggests the nearest)
├── DuplicateName                 a register got the same name twice
├── OutOfRange                    a dose or parameter outside its range
├── ConfigError                   a study, model or option that cannot be run as written
├── PackError                     a pack file that does not follow the schema
├── DesignError                   a plan that cannot be balanced, or that repeats a unit
├── InstrumentError               an instrument file that does not follow the schema
├── DataError                     numbers a statistic cannot use (NaN, one unit, unequal lengths)
├── ModelError                    a model that cannot be loaded or is not the one expected
│   ├── UnknownArchitecture       no anatomy is known for it
│   ├── NoSuchLayer               a layer or head the model does not have
│   └── NotOnThisModel            an effect that means nothing on this model
├── CalibrationError              a calibration that fails its own validation
│   └── MissingVector             a pack asks for a vector that was not calibrated
├── IntegrityError                a file, plan, allocation or published number is not what was committed
│   ├── NonDeterminism            one shard, two different results
│   └── UnblindRefused            the ledger does not permit unblinding
└── StorageError                  the store refused
    ├── StorageFull               no space, quota or file-size limit
    ├── StorageReadOnly           no permission to write
    └── StorageUnavailable        may pass: the only error that is retried
"""


class NeuromodError(Exception):
    """Base of all errors that the user can fix."""


class UnknownName(NeuromodError):
    """A name that no register or folder holds."""


class DuplicateName(NeuromodError):
    """A name registered twice."""


class OutOfRange(NeuromodError):
    """A value outside the range its owner states."""


class ConfigError(NeuromodError):
    """A configuration that cannot be run as written."""


class PackError(NeuromodError):
    """A pack that does not follow the schema."""


class DesignError(NeuromodError):
    """A design that cannot be balanced or repeats a unit."""


class InstrumentError(NeuromodError):
    """An instrument that does not follow the schema."""


class DataError(NeuromodError):
    """Data that a statistic cannot use."""


class ModelError(NeuromodError):
    """A model that cannot be loaded, or is not the one expected."""


class UnknownArchitecture(ModelError):
    """A model whose anatomy is not in the table."""


class NoSuchLayer(ModelError):
    """A layer or head that the model does not have."""


class NotOnThisModel(ModelError):
    """An effect that means nothing on this model."""


class CalibrationError(NeuromodError):
    """A calibration that fails its own validation."""


class MissingVector(CalibrationError):
    """A vector or head set that was not calibrated for this model."""


class IntegrityError(NeuromodError):
    """Something is not what was committed."""


class NonDeterminism(IntegrityError):
    """One shard gave two different results."""


class UnblindRefused(IntegrityError):
    """The ledger does not permit unblinding."""


class StorageError(NeuromodError):
    """The store refused."""


class StorageFull(StorageError):
    """No space, quota reached, or file-size limit reached."""


class StorageReadOnly(StorageError):
    """No permission to write."""


class StorageUnavailable(StorageError):
    """The store did not answer; trying again may help."""
