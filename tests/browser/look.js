// Opens pages in headless Chromium and tells what happened, as JSON on stdout.
//
//   node look.js job.json     with job.json: {"chromium", "pages": [files], "widths": [], "schemes": [], "folder": where PDF and PNG go}
//
// For each page: console messages and errors, requests other than for the page itself, violations that axe-core finds, parts that
// stick out of the window, and a PDF of the page as printed, without background graphics.
"use strict";

const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");
const modules = process.env.STDC_NODE_MODULES;
const { chromium } = require(path.join(modules, "playwright-core"));
const axe = fs.readFileSync(path.join(modules, "axe-core", "axe.min.js"), "utf8");

async function look(browser, job, file) {
  const address = pathToFileURL(file).href;
  const seen = { page: file, console: [], requests: [], violations: [], sticking_out: [], views: [] };
  for (const scheme of job.schemes) {
    for (const width of job.widths) {
      const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, offline: true });
      const page = await context.newPage();
      page.on("console", (message) => seen.console.push(`${width} ${scheme}: ${message.text()}`));
      page.on("pageerror", (error) => seen.console.push(`${width} ${scheme}: ${error.message}`));
      page.on("request", (request) => {
        if (request.url() !== address && !request.url().startsWith("data:")) seen.requests.push(request.url());
      });
      await page.goto(address, { waitUntil: "load" });
      // All that a person can open is open, so that it is looked at too.
      await page.evaluate(() => document.querySelectorAll("details").forEach((part) => (part.open = true)));
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      for (const violation of found.violations) {
        for (const node of violation.nodes) {
          seen.violations.push(`${width} ${scheme}: ${violation.id}: ${node.target.join(" ")}: ${node.failureSummary}`);
        }
      }
      const out = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (out > 0) seen.sticking_out.push(`${width} ${scheme}: ${out} pixels`);
      const name = `${path.basename(file, ".html")}-${width}-${scheme}`;
      if (job.pictures) {
        await page.evaluate(() => document.querySelectorAll("details").forEach((part) => (part.open = false)));
        await page.screenshot({ path: path.join(job.folder, `${name}.png`), fullPage: true });
      }
      seen.views.push(name);
      await context.close();
    }
  }
  await touch(browser, address, seen);
  // Printed from a dark desktop, which must not put light text on white paper.
  const context = await browser.newContext({ colorScheme: "dark", offline: true });
  const page = await context.newPage();
  await page.goto(address, { waitUntil: "load" });
  seen.pdf = path.join(job.folder, `${path.basename(file, ".html")}.pdf`);
  await page.emulateMedia({ media: "print" });
  seen.print = await page.evaluate(() => {
    const style = getComputedStyle(document.body);
    return { background: style.backgroundColor, ink: style.color };
  });
  seen.headings = await page.evaluate(() => [...document.querySelectorAll("h2")].map((heading) => heading.textContent.trim()));
  await page.pdf({ path: seen.pdf, format: "A4", margin: { top: "12mm", bottom: "12mm", left: "12mm", right: "12mm" } });
  await context.close();
  return seen;
}

// A finger on a chart and on the confusion map, then Tab and Enter: what is told then.
async function touch(browser, address, seen) {
  const context = await browser.newContext({ viewport: { width: 390, height: 900 }, hasTouch: true, isMobile: true, offline: true });
  const page = await context.newPage();
  await page.goto(address, { waitUntil: "load" });
  const told = () =>
    page.evaluate(() =>
      [...document.querySelectorAll(".readout")].filter((words) => getComputedStyle(words).visibility === "visible").map((words) => words.textContent).join("|")
    );
  seen.touched = {};
  for (const [name, selector] of [["chart", "svg.chart .strip rect"], ["confusion", "svg.heat .spot .cell"]]) {
    const part = page.locator(selector).nth(4);
    if (!(await part.count())) continue;
    await part.scrollIntoViewIfNeeded();
    const box = await part.boundingBox();
    await page.touchscreen.tap(box.x + box.width / 2, box.y + box.height / 2);
    seen.touched[name] = await told();
  }
  const table = page.locator("details.values summary").first();
  if (await table.count()) {
    await table.focus();
    await page.keyboard.press("Enter");
  }
  seen.opened_by_keyboard = await page.evaluate(() => {
    const table = document.querySelector("details.values[open] table");
    return table && table.getBoundingClientRect().height > 0 ? table.closest("details").querySelector("summary").textContent : "";
  });
  await context.close();
}

async function main() {
  const job = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
  const browser = await chromium.launch({ executablePath: job.chromium, args: ["--no-sandbox", "--disable-gpu"] });
  const seen = [];
  for (const file of job.pages) seen.push(await look(browser, job, file));
  await browser.close();
  process.stdout.write(JSON.stringify(seen, null, 1));
}

main().catch((error) => {
  process.stderr.write(`${error.stack || error}\n`);
  process.exit(1);
});
