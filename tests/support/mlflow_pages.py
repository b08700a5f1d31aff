"""MLflow's pages in a real headless browser, as somebody who compares two trials of a study clicks through them.

As a command it saves the pictures of that: python tests/mlflow_pages.py http://127.0.0.1:5000 STUDY FOLDER
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_SECONDS = 120
ASSISTANT = "button[data-component-id='mlflow.assistant.chat_panel.close']"
ROWS = ".ag-pinned-left-cols-container [role=row]"
NOTE = "[data-testid=note-editor-preview-content]"
CARDS = "[data-testid=experiment-view-compare-runs-card]"
HEADERS = "[role=columnheader]"
PICTURES = """
return [...document.images].filter(image => image.src.startsWith('blob:') && image.complete && image.naturalWidth > 0)
  .map(image => image.naturalWidth)
"""
CURVES = """
return [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data)
  .filter(trace => trace.type === 'scatter' && trace.x)
  .map(trace => [trace.name, Array.from(trace.x), Array.from(trace.y)])
"""


def browser_program() -> str | None:
    """Debian's chromium, or whatever else is there of its family."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def browser() -> Iterator[WebDriver]:
    """Without a screen, and without a sandbox, which root may not have."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(browser_program())
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1400,900")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


class MlflowPages:
    """The pages of one experiment on the server `url`; every method waits until its page shows what it asks for."""

    def __init__(self, driver: WebDriver, url: str, experiment_id: str = "1") -> None:
        self._driver = driver
        self._url = url
        self._runs = f"{url}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"

    def _until(self, condition: Callable[[WebDriver], Any]) -> Any:
        ignored = (NoSuchElementException, StaleElementReferenceException, IndexError)
        return WebDriverWait(self._driver, PATIENCE_SECONDS, 0.2, ignored).until(condition)

    def _rows(self, _driver: WebDriver | None = None) -> list[WebElement]:
        return [row for row in self._driver.find_elements(By.CSS_SELECTOR, ROWS) if row.get_attribute("row-id")]

    def _names(self, _driver: WebDriver | None = None) -> list[str]:
        return [row.find_element(By.CSS_SELECTOR, "a").text for row in self._rows()]

    def open_printed(self, link: str) -> str:
        """The page that a summary's link leads to, on this server; the text of its side bar."""
        self._driver.get("about:blank")  # the pages differ in what follows the # alone
        self._driver.get(self._url + link[link.index("/#/") :])
        return str(self._until(lambda driver: driver.find_element(By.TAG_NAME, "nav").text))

    def description(self) -> str:
        """What the page of a run says of it."""
        return str(self._until(lambda driver: driver.find_element(By.CSS_SELECTOR, NOTE).text))

    def wait_for_names(self, number: int) -> list[str]:
        """The names in the table's rows, once there are so many."""
        return list(self._until(lambda _: names if len(names := self._names()) == number else None))

    def wait_for_columns(self, wanted: set[str]) -> None:
        """Wait until the table of runs has these; raise TimeoutException where it never does."""
        self._until(lambda driver: wanted <= {head.text for head in driver.find_elements(By.CSS_SELECTOR, HEADERS)})

    def charts(self, number: int) -> list[str]:
        """The titles of the first charts on a page, once there are so many."""

        def titles(driver: WebDriver) -> list[str] | None:
            found = [card.text.partition("\n")[0] for card in driver.find_elements(By.CSS_SELECTOR, CARDS)]
            return found[:number] if len(found) >= number and all(found[:number]) else None

        return list(self._until(titles))

    def first_curve(self) -> tuple[list[float], list[float]]:
        """The steps and the values in the first chart on a page."""
        _, steps, values = self._until(lambda driver: driver.execute_script(CURVES))[0]
        return steps, values

    def width_of_picture(self) -> int:
        """In pixels; of the artifact that is shown, as soon as it has arrived."""
        return int(max(self._until(lambda driver: driver.execute_script(PICTURES))))

    def open_runs(self, study: str, sorted_by: str | None = None) -> list[str]:
        """The runs page, filtered by a study; the names in its rows, a study with its trials folded away."""
        order = "" if sorted_by is None else f"&orderByKey={quote(f'metrics.`{sorted_by}`')}&orderByAsc=false"
        self._driver.get("about:blank")  # the pages differ in what follows the # alone
        condition = quote(f"tags.study = '{study}'")
        self._driver.get(f"{self._runs}&searchFilter={condition}{order}")
        self._until(self._names)
        for close in self._driver.find_elements(By.CSS_SELECTOR, ASSISTANT):
            close.click()
        return list(self._until(self._names))

    def unfold(self, trials: int) -> list[str]:
        """Show the trials of the study; the names in all rows."""
        self._rows()[0].find_element(By.TAG_NAME, "button").click()
        return list(self._until(lambda _: self._names() if len(self._rows()) == trials + 1 else None))

    def compare(self, *names: str) -> dict[str, list[str]]:
        """Select runs in the list and press Compare; the table of their parameters."""
        for name in names:
            row = next(row for row in self._rows() if row.find_element(By.CSS_SELECTOR, "a").text == name)
            row.find_element(By.CSS_SELECTOR, "input[type=checkbox]").click()
        self._until(lambda driver: driver.find_element(By.XPATH, "//button[normalize-space()='Compare']")).click()
        table = self._until(self._parameters)
        return dict(table)

    def _parameters(self, driver: WebDriver) -> dict[str, list[str]]:
        rows = driver.find_elements(By.XPATH, "//tr[th[@scope='row']]")
        found = {
            row.find_element(By.TAG_NAME, "th").text: [cell.text for cell in row.find_elements(By.TAG_NAME, "td")]
            for row in rows
        }
        return found if "clip" in found else {}

    def curves(self, metric: str, names: Sequence[str]) -> dict[str, tuple[list[float], list[float]]]:
        """From the comparison to the plot of a metric: run name -> (steps, values)."""
        link = self._driver.find_element(By.XPATH, f"//a[normalize-space()='{metric}']")
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
        link.click()
        return dict(self._until(lambda _: curves if len(curves := self._curves()) == len(names) else None))

    def _curves(self) -> dict[str, tuple[list[float], list[float]]]:
        return {name: (steps, values) for name, steps, values in self._driver.execute_script(CURVES)}

    def picture(self, path: Path) -> None:
        """Of the window as it is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._driver.save_screenshot(str(path))


def main(url: str, study: str, folder: Path) -> None:
    """Compare the best two trials of a study, with pictures."""
    with browser() as driver:
        pages = MlflowPages(driver, url)
        best = [name for name in pages.open_runs(study, "eval/return") if name.startswith("trial-")][:2]
        pages.picture(folder / "mlflow-study.png")
        pages.compare(*best)
        pages.picture(folder / "mlflow-compare.png")
        pages.curves("eval/return", best)
        pages.picture(folder / "mlflow-curves.png")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
