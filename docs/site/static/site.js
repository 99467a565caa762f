// The theme's folds in the list of pages are arrows without a name: a screen reader is told what they hold.
document.addEventListener("DOMContentLoaded", () => {
  for (const arrow of document.querySelectorAll("details > summary")) {
    const page = arrow.closest("li")?.querySelector("a");
    if (!arrow.textContent.trim() && page) arrow.setAttribute("aria-label", `pages below ${page.textContent.trim()}`);
  }
});
