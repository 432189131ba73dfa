// What does a person at a browser see and do?
//
// One visit of the web console, in one language and at one width: sign in, look, plan a shift with the
// sliders, be refused by the guard, apply, watch it ramp, hold, resume, cancel, read the audit, sign out.
// Every page is looked at by axe-core in light and in dark, must fit the width, and must neither complain on
// the console nor ask anybody but the gateway. The test that starts this has started the federation.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import path from "node:path";

const visit = JSON.parse(process.argv[2]);
const require = createRequire(path.join(process.env.SUIYUE_NODE_MODULES, "here.js"));
const { chromium } = require("playwright-core");
const axe = require("axe-core").source;
const pictures = process.env.SUIYUE_SCREENSHOTS;

// The words that a page must show, by language.
const WORDS = {
  en: { title: "Federation", apply: "Apply this plan", held: "held", back: "walking back", none: "No shift runs.", audit: "linked without a break", over: "Sign in again", crowd: "Too many pages", refused: "The guard refuses" },
  zh: { title: "联邦", apply: "应用这个计划", held: "已保持", back: "回退中", none: "没有正在进行的调流。", audit: "环环相扣", over: "重新登录", crowd: "打开的页面太多", refused: "护栏拒绝" },
};
const words = WORDS[visit.lang];

const browser = await chromium.launch({
  executablePath: process.env.SUIYUE_CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const context = await browser.newContext({
  locale: visit.lang === "zh" ? "zh-CN" : "en-GB",
  viewport: { width: visit.width, height: visit.width < 600 ? 844 : 800 },
});
context.setDefaultTimeout(30_000);
const complaints = [];
const begun = performance.now();
let page = await context.newPage();
watch(page);

function say(text) {
  console.log(`${visit.lang} ${visit.width}: ${((performance.now() - begun) / 1000).toFixed(1)} s ${text}`);
}

// Whatever a page complains about, and whomever it asks.
function watch(page) {
  page.on("pageerror", (error) => complaints.push(`script: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`${message.type()}: ${message.text()}`);
  });
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== visit.base && protocol !== "data:") complaints.push(`asks ${request.url()}`);
  });
}

// A page as everybody must be able to use it.
async function inspect(name) {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    const result = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ["violations"] })`);
    const grave = result.violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    const told = grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
    assert.deepEqual(told, [], `axe-core at ${name}, ${scheme}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${name} is ${wide} pixels wider than the screen`);
    if (pictures) {
      mkdirSync(pictures, { recursive: true });
      await page.screenshot({ path: path.join(pictures, `${name}-${visit.lang}-${visit.width}-${scheme}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: "light" });
  say(`${name}: no serious fault, light and dark`);
}

async function shows(selector, text) {
  await page.locator(selector).filter({ hasText: text }).first().waitFor();
}

async function enter() {
  await page.goto(`${visit.base}/console/sign-in`);
  await inspect("sign-in");
  await page.goto(`${visit.base}/console/sign-in#${visit.token}`);
  await page.reload();
  await page.waitForURL(`${visit.base}/console`);
  assert.equal(await page.locator("h1").textContent(), words.title);
  assert.equal(await page.locator("html").getAttribute("lang"), visit.lang === "zh" ? "zh-CN" : "en");
  say("signed in with the token of the address, which is gone from it");
}

async function look() {
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip", "the first stop");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main", "the skip link leads to the text");
  await page.locator("#r440100").focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(/region=440100/);
  await shows("#n-suikang h3", "suikang");
  // Numbers of calls come by themselves.
  await page.waitForFunction(() => parseFloat(document.querySelector("#r440100 .numbers").textContent) > 20);
  await page.waitForFunction(() => document.querySelector("#n-suikang .chart .line"));
  await inspect("federation");
}

async function plan() {
  await page.locator("nav a").nth(1).click();
  await page.waitForURL(/shift/);
  await inspect("shift-empty");
  await page.locator("#region-code").selectOption("440100");
  await page.locator("#from").selectOption("suikang");
  await page.locator('input[name="to"][value="yuekang"]').check();
  await page.locator("#every_s").fill("2");
  // The machine is busy with this very browser: what its nodes do says nothing here.
  await page.locator("#order summary").click();
  await page.locator("#error_delta").fill("100");
  await page.locator("#p99_factor").fill("1000");
  await page.locator("#percent").focus();
  await page.keyboard.press("End");
  await shows('[data-verdict="refused"]', words.refused);
  assert.match(await page.locator('[data-verdict="refused"]').textContent(), /0\.80/);
  await inspect("shift-refused");
  await page.locator("#percent").fill("30");
  await shows('[data-verdict="fine"]', "30 %");
  assert.equal(await page.locator("#percent-told").textContent(), "30 %");
  assert.ok(await page.locator("#apply button").isDisabled(), "without a reason nothing is applied");
  await page.locator("#reason").fill(visit.reason);
  await page.waitForFunction(() => document.querySelector("#apply button:not([disabled])"));
  const said = await page.locator("#preview-said").textContent();
  assert.match(said, /30 %/, "a screen reader is told");
  await inspect("shift-planned");
  say(`the preview followed the form: ${said.trim()}`);
  await page.locator("#apply").getByRole("button", { name: words.apply }).click();
  await page.waitForURL(/done=applied/);
}

const percent = () => page.evaluate(() => parseFloat(document.querySelector(".shift .progress strong")?.textContent));

const reason = () => page.locator('.shift input[name="reason"]');

async function change(name) {
  await reason().fill(visit.reason);
  await page.locator(`.shift button[value="${name}"]`).click();
  await page.waitForURL(new RegExp(`done=${name}`));
}

async function conduct() {
  const seen = new Set();
  await page.waitForFunction(() => document.querySelector(".shift .progress strong"));
  // What somebody types stays while the page changes around it.
  await reason().fill(visit.reason);
  while (!seen.has(20)) {
    seen.add(await percent());
    await page.waitForFunction((last) => parseFloat(document.querySelector(".shift .progress strong").textContent) !== last, [...seen].at(-1));
    seen.add(await percent());
  }
  assert.equal(await reason().inputValue(), visit.reason);
  assert.ok(await reason().evaluate((field) => field === document.activeElement), "the focus stays");
  await change("hold");
  await shows(".shift .badge", words.held);
  const held = await percent();
  say(`it grew by itself (${[...seen].join(", ")} %) and is held at ${held} %`);
  await inspect("shift-held");
  await page.goto(`${visit.base}/console`);
  await shows("#shifts .badge", words.held);
  await inspect("federation-shift");
  await page.goto(`${visit.base}/console/shift`);
  await change("resume");
  await page.waitForFunction((held) => parseFloat(document.querySelector(".shift .progress strong").textContent) > held, held);
  await change("cancel");
  await shows(".shift .badge", words.back);
  await shows("#shifts .empty", words.none);
  say("resumed, cancelled, walked back to nothing");
}

async function remember() {
  await page.locator("nav a").nth(2).click();
  await page.waitForURL(/history/);
  await shows("#audit .chain", words.audit);
  const methods = await page.locator("#audit .audit code").allTextContents();
  for (const method of ["ApplyShift", "ChangeShift"]) assert.ok(methods.includes(method), `${method} in ${methods}`);
  await shows("#audit .reason", visit.reason);
  await page.locator("#audit summary").first().click();
  await page.locator("#e-region").selectOption("440100");
  await page.locator("#e-suppose").selectOption("node-down");
  await page.locator("#e-node").selectOption("suikang");
  await page.locator('#explain button[type="submit"]').click();
  await shows("#explain .answer", "yuekang");
  await page.locator("#audit summary").first().click();
  await inspect("history");
}

// Too many pages are open: the last one says so, asks rarely, and goes on when there is room.
async function crowd() {
  const others = [];
  for (let at = 0; at < 4; at++) {
    const other = await context.newPage();
    await other.goto(`${visit.base}/console`);
    others.push(other);
  }
  const last = others.pop();
  await last.locator("#lost").filter({ hasText: words.crowd }).waitFor();
  await others[0].close();
  await last.waitForFunction(() => document.getElementById("lost").textContent === "");
  for (const other of [...others.slice(1), last]) await other.close();
  say("a fifth page said that it is one too many, and went on when there was room");
}

// Somebody leaves in another tab: this one says so, and does not stand there as if nothing had happened.
async function leave() {
  const other = page;
  page = await context.newPage();
  watch(page);
  await page.goto(`${visit.base}/console`);
  const before = complaints.length;
  await page.locator('form[action="/console/sign-out"] button').click();
  await page.waitForURL(/sign-in/);
  page = other;
  await page.locator("#ended").waitFor({ state: "visible" });
  await inspect("session-ended");
  await page.getByRole("link", { name: words.over }).click();
  await page.waitForURL(/sign-in/);
  assert.equal(complaints.length, before);
  say("signed out elsewhere: the page said so");
}

try {
  await enter();
  await look();
  await plan();
  await conduct();
  await remember();
  await crowd();
  await leave();
  assert.deepEqual(complaints, [], "complaints of the browser");
  say("no complaint of the browser, nobody else was asked");
} catch (error) {
  if (pictures) await page.screenshot({ path: path.join(pictures, `failed-${visit.lang}-${visit.width}.png`), fullPage: true });
  console.error(complaints.join("\n"));
  console.error(await page.locator("body").innerText().catch(() => ""));
  throw error;
} finally {
  await browser.close();
}
