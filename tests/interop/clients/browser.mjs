// What the programs that use the console in Chromium share. The report on stdout is described in check.py.
import { createRequire } from "node:module";
import { randomBytes } from "node:crypto";

const { chromium } = createRequire(import.meta.url)("playwright-core");

export const address = process.argv.at(-1);
export const [host, port] = address.split(":");
export const base = `${process.argv.includes("--tls") ? "https" : "http"}://${address}/`;
export const say = (line) => process.stdout.write(line + "\n");
export const fresh = (name) => `${name}-${randomBytes(4).toString("hex")}`;
export const equal = (got, expected) => {
  const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
  if (a !== b) throw new Error(`got ${a.slice(0, 300)}, expected ${b.slice(0, 300)}`);
};
export const holds = (condition, what) => {
  if (!condition) throw new Error(what);
};
export const until = async (condition, what, seconds = 30) => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await new Promise((done) => setTimeout(done, 20))) {
    const result = await condition();
    if (result) return result;
  }
  throw new Error(`not within ${seconds} s: ${typeof what === "function" ? await what() : what}`);
};

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM, headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

// A page of the console that fails its check where a script fails, a file is missing, or the policy forbids something.
export const troubles = [];
export const open = async (hash, { wide = true, dark = false, quiet = false } = {}) => {
  const context = await browser.newContext({ viewport: wide ? { width: 1280, height: 800 } : { width: 390, height: 844 }, colorScheme: dark ? "dark" : "light", ignoreHTTPSErrors: true });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => troubles.push(`${hash}: ${error.message}`));
  page.on("console", (message) => !quiet && message.type() === "error" && troubles.push(`${hash}: ${message.text()}`));
  page.on("dialog", (dialog) => troubles.push(`${hash}: a record opened a dialog: ${dialog.message()}`) && dialog.dismiss());
  await page.goto(`${base}#/${hash}`);
  await page.locator("h1").first().waitFor();
  return page;
};
export const done = (page) => page.context().close();
export const status = (page) => page.locator(".status").first().textContent();
export const shows = (page, selector, wanted) =>
  until(async () => wanted.test((await page.locator(selector).first().textContent()) ?? ""), async () => `${selector} says '${await page.locator(selector).first().textContent()}'`);

export const run = async (checks, speaks) => {
  say(`note Chromium ${browser.version()}`);
  for (const [name, check] of Object.entries(checks)) {
    if (!speaks) {
      say(`unable ${name}: this broker has no console`);
      continue;
    }
    try {
      troubles.length = 0;
      const unable = await check();
      if (troubles.length) throw new Error(troubles.join("; "));
      say(unable ? `unable ${name}: ${unable}` : `pass ${name}`);
    } catch (error) {
      for (const context of browser.contexts()) await context.close();
      console.error(error);
      say(`fail ${name}: ${String(error.message ?? error).split(/\s+/).join(" ").slice(0, 400)}`);
    }
  }
  await browser.close();
  say("done");
  process.exit(0);
};
