"""What later revisions did to a signed document: justified additions, or findings with names (S26).

pyHanko's difference rules say which object may change how. Revisions are compared one step at a time and each step
once, however many signatures look back at it (trap P16); orphaned objects are looked at instead of waved through.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.reader import HistoricalResolver, PdfFileReader
from pyhanko.sign.diff_analysis import (
    DEFAULT_DIFF_POLICY,
    ModificationLevel,
    StandardDiffPolicy,
    SuspiciousModification,
)
from pyhanko.sign.diff_analysis.policies import _find_orphans
from pyhanko.sign.diff_analysis.rules import form_field_rules
from pyhanko.sign.diff_analysis.rules.file_structure_rules import (
    CatalogModificationRule,
    ObjectStreamRule,
    XrefStreamRule,
)
from pyhanko.sign.diff_analysis.rules.form_field_rules import DSSCompareRule
from pyhanko.sign.diff_analysis.rules.metadata_rules import DocInfoRule, MetadataUpdateRule
from pyhanko.sign.diff_analysis.rules_api import QualifiedWhitelistRule, ReferenceUpdate
from pyhanko.sign.fields import FieldMDPSpec, MDPPerm

from signing.pdf_structure import DOCUMENT_FAULTS, PARSER_FAULTS, entry, read
from signing.validation.findings import Finding
from signing.validation.revocation import is_readable

logging.getLogger("pyhanko.sign.diff_analysis").setLevel(logging.CRITICAL)


class ArchivalOrphanRule(QualifiedWhitelistRule):
    """Objects nothing points to are harmless when they are leftover validation data or file structure (trap P15)."""

    def apply_qualified(
        self, old: HistoricalResolver, new: HistoricalResolver
    ) -> Iterable[tuple[ModificationLevel, ReferenceUpdate]]:
        """Clear the orphans that hold validation data, and only those."""
        for reference in _find_orphans(new):
            if _is_validation_data(new(reference)):
                yield ModificationLevel.LTA_UPDATES, ReferenceUpdate(reference)


def _is_validation_data(value: Any) -> bool:
    if isinstance(value, generic.NullObject):
        return True
    if entry(value, "/Type") in ("/XRef", "/ObjStm"):
        return True  # containers of a revision, not content of their own
    if not isinstance(value, generic.StreamObject):
        return entry(value, "/Type") in ("/VRI", "/DSS")
    return any(is_readable(value.data, kind) for kind in ("certificate", "OCSP", "CRL"))


class ChangedMetadataRule(MetadataUpdateRule):
    """The stock rule finds fault with metadata as the author left it; what did not change needs no permission."""

    def apply(self, old: HistoricalResolver, new: HistoricalResolver) -> Iterable[ReferenceUpdate]:
        """Judge the metadata stream only where the new revision touches it."""
        pointers = [root.raw_get("/Metadata") if "/Metadata" in root else None for root in (old.root, new.root)]
        references = [getattr(pointer, "reference", None) for pointer in pointers]
        touched = new.explicit_refs_in_revision()  # type: ignore[no-untyped-call]
        if references[0] is not None and references[0] == references[1] and references[0] not in touched:
            return ()
        return super().apply(old, new)  # type: ignore[no-untyped-call, no-any-return, unused-ignore]


def _annotations(page: Any, fault: type[Exception]) -> tuple[set[Any], Any]:
    """A page's annotations by reference; those written inside the list count by what they are.

    The stock function refuses such lists, so that a second signature on a page with ordinary links would break the
    first. Taking one away, changing it or adding one still shows in the comparison of the two sets.
    """
    if not isinstance(page, generic.DictionaryObject):
        raise fault("a page is not a dictionary")
    value = page.raw_get("/Annots")
    listed = value.get_object()
    if not isinstance(listed, generic.ArrayObject):
        raise SuspiciousModification("a page's annotations are not an array")
    entries = [listed.raw_get(index) for index in range(len(listed))]
    known = {entry.reference if isinstance(entry, generic.IndirectObject) else repr(entry) for entry in entries}
    return known, value.reference if isinstance(value, generic.IndirectObject) else None


form_field_rules._extract_annots_from_page = _annotations

_METADATA: Any = ChangedMetadataRule
_CATALOG: Any = CatalogModificationRule

POLICY = StandardDiffPolicy(
    global_rules=[
        _CATALOG(),
        *(
            rule.as_qualified(ModificationLevel.LTA_UPDATES)
            for rule in (DocInfoRule(), XrefStreamRule(), ObjectStreamRule(), DSSCompareRule(), _METADATA())
        ),
        ArchivalOrphanRule(),
    ],
    form_rule=DEFAULT_DIFF_POLICY.form_rule,
    ignore_orphaned_objects=False,
)


@dataclass(frozen=True)
class Restrictions:
    """What a signature allows afterwards: DocMDP's permission and the fields it locks."""

    document: MDPPerm | None = None
    fields: FieldMDPSpec | None = None


@dataclass(frozen=True)
class Step:
    """One revision compared with the one before it."""

    level: ModificationLevel
    fields: frozenset[str]
    findings: tuple[Finding, ...] = ()


class Revisions:
    """The revisions of one document, each step compared once."""

    def __init__(self, reader: PdfFileReader) -> None:
        self._reader = reader
        _remember_introductions(reader)
        self._steps: dict[tuple[int, str], Step] = {}
        self._page_counts: dict[int, int] = {}
        self._contained: dict[tuple[Any, int], int] = {}  # (object, revision): octets that are known to hold it

    @property
    def count(self) -> int:
        """How many revisions there are."""
        return int(self._reader.xrefs.total_revisions)

    def changes_after(
        self, revision: int, restrictions: Restrictions, signature_fields: frozenset[str]
    ) -> Iterator[Finding]:
        """Findings about everything that came after ``revision``."""
        for later in range(revision + 1, self.count):
            step = self._step(later, restrictions)
            if step.findings:
                yield from step.findings
                return  # worse than this it does not get
            filled = sorted(step.fields - signature_fields)
            if restrictions.document is not None and step.level.value > restrictions.document.value:
                yield Finding("DOC_MDP_BREACH", "changed more than the certifying signature allows")
            elif filled:
                yield Finding("FORM_FILLED", ", ".join(filled))

    def are_contained(self, data: bytes, revision: int) -> bool:
        """Whether the revisions up to this one, whose octets ``data`` is, read the same without what comes later.

        Cross-references, lengths and strings that lead behind the signed octets would let a later revision supply
        what was signed: the byte range has to be the whole document as signed (ISO 32000-2 12.8.1).
        """
        try:
            alone = read(data)
            return alone.xrefs.total_revisions == revision + 1 and all(
                self._is_contained(alone, reference, number, len(data))
                for number in range(revision + 1)
                for reference in self._reader.xrefs.explicit_refs_in_revision(number)
            )
        except DOCUMENT_FAULTS:
            return False

    def _is_contained(self, alone: PdfFileReader, reference: Any, revision: int, octets: int) -> bool:
        key = (reference, revision)
        if self._contained.get(key, octets + 1) <= octets:
            return True
        if _written(alone, reference, revision) != _written(self._reader, reference, revision):
            return False
        self._contained[key] = octets
        return True

    def are_painted_over(self, revision: int, fields: Iterable[Any]) -> bool:
        """Whether any of these signature fields (references), which show no signature, shows more than it did then."""
        then = self._reader.get_historical_resolver(revision)
        try:
            return any(_pictures(self._reader, field) != _pictures(then, field) for field in fields)
        except PARSER_FAULTS:
            return True

    def _step(self, revision: int, restrictions: Restrictions) -> Step:
        key = (revision, repr(restrictions))
        if key not in self._steps:
            self._steps[key] = self._compare(revision, restrictions)
        return self._steps[key]

    def _compare(self, revision: int, restrictions: Restrictions) -> Step:
        old = self._reader.get_historical_resolver(revision - 1)
        new = self._reader.get_historical_resolver(revision)
        try:
            if _is_awaited(old, new):
                raise SuspiciousModification("an object is supplied that was named before it was there")
            result = POLICY.apply(old, new, field_mdp_spec=restrictions.fields, doc_mdp=restrictions.document)
        except SuspiciousModification as error:
            return Step(ModificationLevel.OTHER, frozenset(), (self._named(error, old, new, revision),))
        except PARSER_FAULTS:
            return Step(
                ModificationLevel.OTHER,
                frozenset(),
                (Finding("UNDEFINED_CHANGE", f"revision {revision + 1} cannot be read"),),
            )
        return Step(result.modification_level, frozenset(result.changed_form_fields))

    def _named(
        self, error: SuspiciousModification, old: HistoricalResolver, new: HistoricalResolver, revision: int
    ) -> Finding:
        where = f"revision {revision + 1}"
        try:
            before, after = self._pages(old, revision - 1), self._pages(new, revision)
            if after != before:
                return Finding("PAGE_ADDED" if after > before else "PAGE_REMOVED", where)
            if _only_annotations_differ(old, new):
                return Finding("ANNOTATION_OVER_CONTENT", where)
        except PARSER_FAULTS:
            pass
        locked = "locked" in str(error)
        return Finding("FIELD_LOCK_BREACH" if locked else "UNDEFINED_CHANGE", where)

    def _pages(self, resolver: HistoricalResolver, revision: int) -> int:
        if revision not in self._page_counts:
            self._page_counts[revision] = len(list(_page_references(resolver)))
        return self._page_counts[revision]


def _is_awaited(old: HistoricalResolver, new: HistoricalResolver) -> bool:
    """Whether a revision supplies an object that the document before named without having it.

    The stock rules ask what refers to a new object in the new revision only, and a field's picture or an orphan may
    then become a page's content.
    """
    look_up = old.reader.xrefs.get_historical_ref
    supplied = [entry for entry in new.explicit_refs_in_revision() if look_up(entry, old.revision) is None]  # type: ignore[no-untyped-call]
    if supplied:
        old._load_reverse_xref_cache()  # type: ignore[no-untyped-call]
    return any(old._get_usages_of_ref(reference) for reference in supplied)


def _written(reader: PdfFileReader, reference: Any, revision: int) -> bytes | None:
    """An object as it would be written, still encrypted; None for one that cannot be read."""
    output = BytesIO()
    try:
        value: Any = reader.get_object(reference, revision=revision, never_decrypt=True)  # type: ignore[no-untyped-call]
        value.write_to_stream(output)
    except PARSER_FAULTS:
        return None
    return output.getvalue()


def _pictures(handler: Any, field: Any) -> list[bytes]:
    """What a signature field's visible widgets paint, empty pictures left out."""
    shown = []
    value = handler.get_object(field)
    for widget in (value, *(kid.get_object() for kid in entry(value, "/Kids", ()))):
        visible: Any = form_field_rules.is_annot_visible
        if not isinstance(widget, generic.DictionaryObject) or not visible(widget):
            continue
        normal = entry(entry(widget, "/AP"), "/N")
        streams = [normal] if isinstance(normal, generic.StreamObject) else [normal[key] for key in normal or ()]
        shown += [stream.data for stream in streams if stream.data.strip()]
    return shown


def _remember_introductions(reader: PdfFileReader) -> None:
    """Look up once in which revision an object first appears; one that never does counts as old (trap P15).

    The stock look-up walks all revisions each time and raises for references that lead nowhere, which authors leave
    behind. Should a later revision define such an object, the look-up finds it there and it is judged as new.
    """
    look_up = reader.xrefs.get_introducing_revision
    known: dict[Any, int] = {}

    def introduced(reference: Any) -> int:
        if reference not in known:
            try:
                known[reference] = look_up(reference)
            except KeyError:
                known[reference] = 0
        return known[reference]

    reader.xrefs.get_introducing_revision = introduced  # type: ignore[method-assign, assignment]


def _page_references(resolver: HistoricalResolver) -> Iterator[tuple[int, int]]:
    waiting, seen = [resolver.root.raw_get("/Pages")], set()
    while waiting:
        pointer = waiting.pop()
        if (pointer.idnum, pointer.generation) in seen:
            return
        seen.add((pointer.idnum, pointer.generation))
        node = resolver.get_object(pointer.reference)
        if isinstance(node, generic.DictionaryObject) and "/Kids" in node:
            waiting += [node["/Kids"].raw_get(index) for index in range(len(node["/Kids"]))]
        else:
            yield pointer.idnum, pointer.generation


def _only_annotations_differ(old: HistoricalResolver, new: HistoricalResolver) -> bool:
    """Whether everything that changed hangs from pages' /Annots, the document information apart."""
    pages = set(_page_references(new))
    information = new.trailer_view.raw_get("/Info") if "/Info" in new.trailer_view else None
    changed = False
    for reference in new.explicit_refs_in_revision():  # type: ignore[no-untyped-call]
        if old.is_ref_unassignable(reference) or reference == getattr(information, "reference", None):
            continue
        before, after = old(reference), new(reference)
        if reference == new.root_ref:
            if not _same_but(_CATALOG_FORMALITIES, before, after):
                return False
            continue
        if (reference.idnum, reference.generation) in pages:
            if not _same_but({"/Annots"}, before, after):
                return False
        elif not (_is_annotation_list(before) and _is_annotation_list(after)):
            return False
        changed = True
    return changed


_CATALOG_FORMALITIES = {"/Version", "/Extensions", "/Metadata"}


def _same_but(ignored: set[str], before: Any, after: Any) -> bool:
    one, other = ({key: value.raw_get(key) for key in value if key not in ignored} for value in (before, after))
    return one == other


def _is_annotation_list(value: Any) -> bool:
    return isinstance(value, generic.ArrayObject) and all(
        entry(listed.get_object(), "/Subtype") is not None for listed in value
    )
