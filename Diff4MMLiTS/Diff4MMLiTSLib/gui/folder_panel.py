"""The part of the study panel that opens folders and makes the sample study."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import qt

from . import logic, views
from .job_bar import JobBar
from .scene import SceneStudy, load_study
from .settings import read_setting, write_setting
from .sources import FolderKind, kind_of, load_images, sample_job, studies_in
from .texts import _
from .widgets import Ui, fill_choice, on_click, waiting
from .work_folder import work_folder

LAST_FOLDER = "LastFolder"


class FolderPanel:
    """Opens what the user has.

    Args:
        ui: The widgets of the module.
        bar: Runs its jobs.
        on_study: Called with a study that was loaded, and whether it is the sample study.
    """

    def __init__(self, ui: Ui, bar: JobBar, *, on_study: Callable[[SceneStudy], None]) -> None:
        self.ui = ui
        self.bar = bar
        self._on_study = on_study
        self._folders: list[Path] = []
        self._work: TemporaryDirectory[str] | None = None
        on_click(ui.openFolderButton, self._ask_for_folder)
        ui.folderStudySelector.currentIndexChanged.connect(lambda *_index: self._load_chosen())
        self._offer([])

    def open_folder(self, folder: Path) -> None:
        """Open a study folder, a folder of studies, of images, or of DICOM files."""
        self._offer([])
        with self.bar.explaining(), waiting():
            kind = kind_of(folder)
            if kind is FolderKind.DICOM:
                out = self._new_folder("dicom")
                self.bar.run(lambda: logic.import_images(folder, out), _("Import DICOM"), self._open_cohort)
            elif kind is FolderKind.IMAGES:
                views.show_volume(load_images(folder)[0], fit=True)
            elif kind is FolderKind.STUDY:
                self._on_study(load_study(folder))
            else:
                self._open_cohort(folder)

    def load_sample(self, then: Callable[[], None]) -> None:
        """Make the sample study and load it; ``then`` is called afterwards."""

        def show(study: SceneStudy) -> None:
            self._on_study(study)
            then()

        folder = self._new_folder("sample")
        self.bar.run(lambda: sample_job(folder), _("Sample study"), show)

    def close(self) -> None:
        """Remove the working files."""
        if self._work is not None:
            self._work.cleanup()
            self._work = None

    def _ask_for_folder(self) -> None:
        chosen = qt.QFileDialog.getExistingDirectory(
            self.ui.openFolderButton, _("Open a study, DICOM or image folder"), read_setting(LAST_FOLDER)
        )
        if chosen:
            write_setting(LAST_FOLDER, str(Path(chosen).parent))
            self.open_folder(Path(chosen))

    def _open_cohort(self, cohort: Path) -> None:
        folders = studies_in(cohort)
        self._offer(folders if len(folders) > 1 else [])
        if folders:
            self._on_study(load_study(folders[0]))

    def _offer(self, folders: list[Path]) -> None:
        """Let the user choose one of several studies."""
        self._folders = folders
        fill_choice(self.ui.folderStudySelector, [folder.name for folder in folders], 0)
        for widget in (self.ui.folderStudyLabel, self.ui.folderStudySelector):
            widget.visible = bool(folders)

    def _load_chosen(self) -> None:
        index = self.ui.folderStudySelector.currentIndex
        if 0 <= index < len(self._folders):
            with self.bar.explaining(), waiting():
                self._on_study(load_study(self._folders[index]))

    def _new_folder(self, name: str) -> Path:
        self._work = self._work or work_folder()
        folder = Path(self._work.name) / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder
