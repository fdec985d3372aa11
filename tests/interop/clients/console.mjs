// The console in Chromium, as somebody uses it. The report on stdout is described in check.py.
import { createInterface } from "node:readline";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { address, base, browser, done, equal, fresh, holds, host, open, port, run, say, shows, status, until } from "./browser.mjs";

const heard = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Lines of the text protocol, and what they are answered: what the page shows is compared with another way to ask.
const netcat = (lines) => new Promise((resolve, reject) => {
  const [socket, parts] = [connect(Number(port), host), []];
  socket.on("data", (part) => parts.push(part)).on("error", reject);
  socket.on("end", () => resolve(Buffer.concat(parts).toString().split("\n").slice(0, -1)));
  socket.end(lines.map((line) => `${line}\n`).join(""));
});
const stored = async (lines) => {
  const answers = await netcat(lines);
  const wrong = answers.find((answer) => !/^(ACK|OK)/.test(answer));
  if (wrong || answers.length !== lines.length) throw new Error(`stored ${answers.length} of ${lines.length}: ${wrong}`);
};
const numbers = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);

// The column `name` of all rows of a long list, by scrolling through it.
const column = async (page, name) => page.evaluate(async (name) => {
  const list = document.querySelector(".messages");
  const found = new Map();
  const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  list.scrollTop = 0;
  for (;;) {
    await frame();
    for (const row of list.querySelectorAll(".row")) found.set(row.n, row.querySelector(`.${name}`).textContent);
    const before = list.scrollTop;
    list.scrollTop += list.clientHeight;
    if (list.scrollTop === before) return [...found].sort(([a], [b]) => a - b).map(([, text]) => text);
  }
}, name);

const PAGES = ["topics", "messages", "groups", "connections", "wire", "try", "learn"];
const checks = {
  async every_page_opens_wide_and_narrow_in_light_and_dark() {
    const [topic, group] = [fresh("page"), fresh("readers")];
    await stored([`CREATE ${topic} partitions:2`, `SEND ${topic} key:k message:{"a":1}`, `RESET ${group} ${topic}/0 0`]);
    for (const hash of [...PAGES, `topics/${topic}`, `messages/${topic}`, `groups/${group}`]) {
      for (const [wide, dark] of [[true, false], [false, true]]) {
        const page = await open(hash, { wide, dark });
        await shows(page, "#broker", /up/);
        equal(await page.locator("nav a[aria-current=page]").getAttribute("data-page"), hash.split("/")[0]);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        holds(over <= 0, `${hash} is ${over} pixels too wide`);
        const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, a")]
          .filter((one) => one.offsetParent && !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).map((one) => one.outerHTML));
        equal(nameless, []);
        await done(page);
      }
    }
  },

  async a_topic_is_made_changed_trimmed_and_deleted() {
    const topic = fresh("made");
    const page = await open("topics", { quiet: true });
    await page.getByRole("button", { name: "New topic" }).click();
    await page.getByLabel("Name", { exact: true }).fill("no such name!");
    await page.getByRole("button", { name: "Create topic" }).click();
    await shows(page, "dialog .wrong", /name/);
    await page.getByLabel("Name", { exact: true }).fill(topic);
    await page.getByLabel("Partitions").fill("2");
    await page.getByRole("button", { name: "Create topic" }).click();
    await page.waitForURL(`**/#/topics/${topic}`);
    await stored(numbers(0, 10).map((n) => `SEND ${topic}/0 message:${n}`));
    await shows(page, ".facts dd", /^10$/);

    await page.getByRole("button", { name: "Change retention.ms" }).click();
    await page.getByLabel("Value").fill("3600000");
    await page.getByRole("button", { name: "Change setting" }).click();
    await page.locator("dialog").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Add partitions…" }).click();
    await page.getByRole("button", { name: "Add partitions", exact: true }).click();
    await page.locator("dialog").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Trim…" }).first().click();
    await page.getByLabel(/^Before/).fill("4");
    await page.getByRole("button", { name: "Delete these records" }).click();
    await page.locator("dialog").waitFor({ state: "detached" });
    const told = (await netcat([`TOPIC ${topic}`])).join("\n");
    holds(/retention.ms:3600000/.test(told) && /partitions:3/.test(told), told);
    await shows(page, ".facts dd", /^6$/);

    await page.goto(`${base}#/topics`);
    await page.getByRole("searchbox", { name: "Filter topics" }).fill(topic.toUpperCase());
    await until(async () => (await page.locator("tbody tr").count()) === 1, "the filter leaves one topic");
    await page.getByRole("link", { name: topic, exact: true }).click();
    await page.getByRole("button", { name: "Delete topic…" }).click();
    await shows(page, "dialog p", /3 partitions with 6 records/);
    await page.getByRole("button", { name: "Keep it" }).click();
    await page.getByRole("button", { name: "Delete topic…" }).click();
    await page.getByRole("button", { name: `Delete ${topic}` }).click();
    await page.waitForURL("**/#/topics");
    holds(!(await netcat(["TOPICS"])).join("\n").includes(topic), "it is deleted");
    await done(page);
  },

  async records_are_written_from_the_page_and_sent_again() {
    const topic = fresh("written");
    await stored([`CREATE ${topic} partitions:1`]);
    const page = await open(`messages/${topic}`);
    await page.getByRole("button", { name: "Produce…" }).click();
    await page.getByLabel("Key", { exact: true }).last().fill("user-1");
    await page.getByLabel("Value", { exact: true }).fill('{"a": 1');
    await page.getByLabel("must be JSON").check();
    await page.getByRole("button", { name: "Send" }).click();
    await shows(page, "dialog .wrong", /Nothing was sent/);
    await page.getByLabel("Value", { exact: true }).fill('{"a": 1}');
    await page.getByLabel("Headers").fill("trace: a1\nfrom: page");
    await page.getByRole("button", { name: "Send" }).click();
    await shows(page, "#said", /partition 0 at offset 0/);
    await page.getByRole("button", { name: "Close" }).click();
    await page.locator(".messages .row").first().click();
    await page.getByRole("button", { name: "Send again…" }).click();
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await shows(page, "#said", /partition 0 at offset 1/);
    equal(await netcat([`TAIL ${topic}/0 from:earliest until:end`]), [
      'offset:0 key:user-1 header.trace:a1 header.from:page message:{"a": 1}', 'offset:1 key:user-1 header.trace:a1 header.from:page message:{"a": 1}', "END next:2"]);
    await done(page);
  },

  async what_is_sent_again_is_the_same_whatever_is_in_it() {
    const topic = fresh("again");
    const all = ["key:user-1 header.b:1 header.a header.b:2 message:as it is", "key:a\\r\\nb escaped:one\\r\\ntwo\\rthree\\nfour",
      "key:\\xff\\x00 header.\\xff:x header.n\\x3am:\\xfe header.two:a\\nb header.\\x20c:\\x20d header.last:e message:headers that are no lines", "key: message:", "tombstone"];
    await stored([`CREATE ${topic} partitions:1`, ...all.map((one) => `SEND ${topic} ${one}`)]);
    const before = await netcat([`TAIL ${topic}/0 from:earliest until:end`]);
    const page = await open(`messages/${topic}?from=earliest`);
    for (const n of numbers(0, all.length)) {
      await page.locator(".messages .row").nth(n).click();
      await shows(page, ".detail h2", new RegExp(`0:${n}$`));
      await page.getByRole("button", { name: "Send again…" }).click();
      await page.getByRole("button", { name: "Send", exact: true }).click();
      await shows(page, "#said", new RegExp(`partition 0 at offset ${n + all.length}`));
      await page.locator("dialog").getByRole("button", { name: "Close" }).click();
    }
    const fields = (lines) => lines.map((line) => line.slice(line.indexOf(" ") + 1));
    const after = await netcat([`TAIL ${topic}/0 from:earliest until:end`]);
    equal(fields(after.slice(all.length, -1)), fields(before.slice(0, -1)));
    await done(page);
  },

  async a_broker_that_is_away_is_told_and_asked_again() {
    const topic = fresh("away");
    await stored([`CREATE ${topic} partitions:1`, `SEND ${topic} message:there again`]);
    for (const hash of ["topics", "messages", "groups", "connections", "learn", `topics/${topic}`, `messages/${topic}`]) {
      const page = await open("try", { quiet: true });
      await page.route("**/api/**", (route) => route.abort("connectionrefused"));
      await page.goto(`${base}#/${hash}`);
      await shows(page, "#broker", /no answer/);
      await shows(page, "main > .bad", /does not answer; trying again/);
      await page.unroute("**/api/**");
      await shows(page, "#broker", /up/);
      await page.locator("main > .bad").first().waitFor({ state: "hidden" });
      if (hash === `messages/${topic}`) await shows(page, ".messages .row .value", /^there again$/);
      await done(page);
    }
  },

  async what_is_missing_or_not_filled_in_is_told() {
    const topic = fresh("gaps");
    await stored([`CREATE ${topic} partitions:1`, ...numbers(0, 9).map((n) => `SEND ${topic} message:${n}`), `TRIM ${topic}/0 5`]);
    const page = await open(`messages/${topic}?from=0:2`);
    await shows(page, "main > .bad:not([hidden])", /^Partition 0: what stood at offset 2 was removed$/);
    await page.getByLabel("Start", { exact: true }).selectOption("From a time");
    await page.getByRole("button", { name: "Live" }).click();
    await shows(page, ".status", /^live: 0 new/);
    await page.goto(`${base}#/constructor`);
    await page.waitForURL("**/#/topics");
    await page.goto(`${base}#/try?call=kafka%20Fetch`);
    await page.getByLabel("Offset").fill("12x");
    await page.getByRole("button", { name: "Send" }).click();
    await shows(page, ".status", /Offset is a whole number, not “12x”/);
    await page.goto(`${base}#/wire?connection=12x`);
    await page.getByRole("button", { name: "Watch" }).click();
    await shows(page, ".status", /A connection is a whole number/);
    await done(page);
  },

  async nothing_that_is_kept_grows_without_end() {
    const page = await open("topics");
    const found = await page.evaluate(async () => {
      const [{ Kept }, { gain, remembered }] = await Promise.all([import("./console/kept.js"), import("./console/format.js")]);
      const long = (bytes) => Array.from({ length: 10 }, () => ({ value: "", headers: [["h", "x".repeat(bytes)]] }));
      const [forward, live] = [new Kept(1000, 100_000), new Kept(1000, 100_000)];
      let pages = 0;
      while (!forward.isFull) (forward.extend(long(1000)), pages++);
      for (let n = 0; n < 50; n++) live.append(long(1000));
      for (let n = 0; n < 5000; n++) gain(`one of many ${n}`, n, n * 1000);
      return { pages, size: forward.size, live: live.size, remembered: remembered() };
    });
    equal([found.pages, found.size], [8, 80]);
    holds(found.live < 100 && found.remembered <= 130, JSON.stringify(found));
    await done(page);
  },

  async messages_are_read_newest_first_and_back_to_the_first() {
    const topic = fresh("paged");
    await stored([`CREATE ${topic} partitions:1`]);
    await stored(numbers(0, 1050).map((n) => `SEND ${topic} message:record ${n}`));
    const page = await open(`messages/${topic}`);
    await shows(page, ".messages .row .value", /^record 1049$/);
    const seen = await until(async () => {
      const texts = await column(page, "value");
      return texts.length === 1050 && texts;
    }, "all are reached by scrolling");
    equal(seen, numbers(0, 1050).reverse().map((n) => `record ${n}`));
    await page.getByLabel("Start", { exact: true }).selectOption("Oldest first");
    await shows(page, ".messages .row .value", /^record 0$/);
    await page.getByLabel("Start", { exact: true }).selectOption("From an offset");
    await page.getByLabel("Where to start").fill("700");
    await page.getByRole("button", { name: "Read" }).click();
    await shows(page, ".messages .row .value", /^record 700$/);
    holds(page.url().includes("from=700"), "the place stands in the address");
    await page.reload();
    await shows(page, ".messages .row .value", /^record 700$/);
    await done(page);
  },

  async a_search_finds_what_matches_in_all_partitions() {
    const topic = fresh("searched");
    await stored([`CREATE ${topic} partitions:4`]);
    await stored(numbers(0, 2000).map((n) => `SEND ${topic} key:user-${n % 50} header.kind:k${n % 2} message:${n % 100 === 7 ? `needle ${n}` : `hay ${n}`}`));
    const page = await open(`messages/${topic}`);
    const finds = async (label, wanted, count) => {
      for (const name of ["Search", "Key", "Header"]) await page.getByLabel(name, { exact: true }).fill(name === label ? wanted : "");
      await page.getByRole("button", { name: "Read" }).click();
      await shows(page, ".status", new RegExp(`^${count.toLocaleString("en-US")} records found in all`));
    };
    await finds("Search", "needle", 20);
    equal((await column(page, "value")).map((text) => Number(text.slice(7))).sort((a, b) => a - b), numbers(0, 20).map((n) => 100 * n + 7));
    await finds("Key", "user-7", 40);
    await finds("Header", "kind=k1", 1000);
    await finds("Search", "nothing like it", 0);
    // One that waits for more is stopped.
    await page.goto(`${base}#/messages/${topic}?match=needle&live=yes`);
    await shows(page, ".status", /^searching, and waiting for more: 20 records found/);
    await stored([`SEND ${topic} message:needle 2000`]);
    await shows(page, ".status", /: 21 records found/);
    await page.getByRole("button", { name: "Stop" }).click();
    await shows(page, ".status", /^stopped; 21 records found$/);
    await done(page);
  },

  async the_live_tail_has_each_record_once_over_a_restart_of_the_broker() {
    const topic = fresh("live");
    await stored([`CREATE ${topic} partitions:3`]);
    await stored(numbers(0, 40).map((n) => `SEND ${topic} message:before ${n}`));
    const page = await open(`messages/${topic}?live=yes`, { quiet: true });
    await shows(page, ".status", /^live: 0 new/);
    await stored(numbers(0, 150).map((n) => `SEND ${topic} message:first ${n}`));
    await shows(page, ".status", /^live: 150 new/);
    say("restart");
    if ((await heard.next()).value !== "restarted") return "this broker cannot be restarted from here";
    await stored(numbers(0, 150).map((n) => `SEND ${topic} message:second ${n}`));
    await shows(page, ".status", /^live: 300 new/);
    // A hidden page holds no connection, and goes on where it was.
    const hide = (hidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    await hide(true);
    await stored(numbers(0, 100).map((n) => `SEND ${topic} message:third ${n}`));
    equal(await status(page), "live: 300 new records");
    await hide(false);
    await shows(page, ".status", /^live: 400 new/);
    const seen = await column(page, "value");
    const all = [["before", 40], ["first", 150], ["second", 150], ["third", 100]].flatMap(([name, count]) => numbers(0, count).map((n) => `${name} ${n}`));
    equal(seen.toSorted(), all.toSorted());
    await done(page);
  },

  async a_burst_of_100000_records_stays_smooth() {
    const topic = fresh("burst");
    await stored([`CREATE ${topic} partitions:2`]);
    const page = await open(`messages/${topic}?live=yes`);
    await shows(page, ".status", /^live: 0 new/);
    await page.evaluate(() => {
      window.longest = 0;
      let last = performance.now();
      const frame = (now) => {
        window.longest = Math.max(window.longest, now - last);
        last = now;
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    });
    for (const part of numbers(0, 10)) await stored(numbers(0, 10_000).map((n) => `SEND ${topic}/${n % 2} message:record ${part * 10_000 + n}`));
    await until(async () => /^live: 100,000 new/.test(await status(page)), () => status(page), 60);
    const { rows, longest } = await page.evaluate(() => ({ rows: document.querySelectorAll(".messages .row").length, longest: window.longest }));
    holds(rows < 80, `${rows} rows are in the page`);
    holds(longest < 500, `a frame took ${Math.round(longest)} ms`);
    say(`note the longest frame of the burst took ${Math.round(longest)} ms`);
    await page.locator(".messages").focus();
    await page.keyboard.press("End");
    await shows(page, ".detail h2", /[01]:0$/);
    await done(page);
  },

  async an_event_source_of_the_browser_goes_on_after_a_restart_and_ends() {
    const topic = fresh("events");
    await stored([`CREATE ${topic} partitions:2`]);
    await stored(numbers(0, 100).map((n) => `SEND ${topic} message:${n}`));
    const page = await open("topics", { quiet: true });
    const begin = (query) => page.evaluate((where) => {
      const source = new EventSource(where);
      window.events = { source, values: [], ends: 0 };
      source.onmessage = (event) => window.events.values.push(JSON.parse(event.data).value);
      source.addEventListener("end", () => (window.events.ends += 1));
    }, `api/topics/${topic}/records?${query}`);
    const values = () => page.evaluate(() => window.events.values);
    await begin("from=earliest");
    await until(async () => (await values()).length === 100, "all are there");
    say("restart");
    if ((await heard.next()).value !== "restarted") return "this broker cannot be restarted from here";
    await stored(numbers(100, 200).map((n) => `SEND ${topic} message:${n}`));
    await until(async () => (await values()).length >= 200, "what came after the restart");
    equal((await values()).map(Number).sort((a, b) => a - b), numbers(0, 200));
    await page.evaluate(() => window.events.source.close());
    await begin("from=earliest&to=latest");
    await until(() => page.evaluate(() => window.events.source.readyState === EventSource.CLOSED), "it ends by itself");
    equal([(await values()).length, await page.evaluate(() => window.events.ends)], [200, 1]);
    await done(page);
  },

  async the_console_works_behind_the_path_of_a_proxy() {
    const topic = fresh("proxied");
    await stored([`CREATE ${topic} partitions:1`, `SEND ${topic} message:through a proxy`]);
    const proxy = createServer((asked, answer) => {
      const sent = request({ host, port, method: asked.method, path: asked.url.replace(/^\/broker/, ""), headers: asked.headers }, (from) => from.pipe(answer.writeHead(from.statusCode, from.headers)));
      asked.pipe(sent.on("error", () => answer.destroy()));
      answer.on("close", () => sent.destroy());
    });
    await new Promise((listening) => proxy.listen(0, "127.0.0.1", listening));
    const page = await open("topics");
    await page.goto(`http://127.0.0.1:${proxy.address().port}/broker/#/messages/${topic}?live=yes`);
    await shows(page, ".messages .row .value", /^through a proxy$/);
    await stored([`SEND ${topic} message:live`]);
    await shows(page, ".messages .row .value", /^live$/);
    await page.getByRole("button", { name: "Produce…" }).click();
    await page.getByLabel("Value", { exact: true }).fill("written");
    await page.getByRole("button", { name: "Send" }).click();
    await shows(page, "#said", /at offset 2/);
    await done(page);
    proxy.closeAllConnections();
    proxy.close();
  },

  async a_group_is_reset_after_a_preview() {
    const [topic, group] = [fresh("reset"), fresh("readers")];
    await stored([`CREATE ${topic} partitions:2`]);
    await stored(numbers(0, 20).map((n) => `SEND ${topic}/${n % 2} message:${n}`));
    await stored([`RESET ${group} ${topic}/0 8 ${topic}/1 9`]);
    const page = await open(`groups/${group}`, { quiet: true });
    await shows(page, ".facts div:nth-child(3) dd", /^3$/);
    await page.getByRole("button", { name: "Reset positions…" }).click();
    const preview = page.locator("dialog tbody tr");
    await until(async () => (await preview.allTextContents()).join() === `${topic}/080-8,${topic}/190-9`, async () => (await preview.allTextContents()).join());
    await page.getByLabel("To", { exact: true }).selectOption("an offset");
    await page.getByLabel("Value").fill("99");
    await shows(page, "dialog .preview p", /99|10/);
    await page.getByLabel("Value").fill("3");
    await until(async () => (await preview.allTextContents()).join() === `${topic}/083-5,${topic}/193-6`, async () => (await preview.allTextContents()).join());
    await page.getByRole("button", { name: "Reset positions", exact: true }).click();
    await page.locator("dialog").waitFor({ state: "detached" });
    await shows(page, ".facts div:nth-child(3) dd", /^14$/);
    const told = (await netcat([`GROUP ${group}`])).join("\n");
    equal(told.match(/ committed:\d+/g), [" committed:3", " committed:3"]);
    await page.getByRole("button", { name: "Delete group…" }).click();
    await page.getByRole("button", { name: `Delete ${group}` }).click();
    await page.waitForURL("**/#/groups");
    await done(page);
  },

  async hostile_records_are_text() {
    const topic = fresh("hostile");
    const markup = `<img src=x onerror=alert(1)><script>alert(2)</script><a href=javascript:alert(3)>`;
    await stored([`CREATE ${topic} partitions:1`,
      `SEND ${topic} key:<b>key</b> header.<i>name</i>:<u>held</u> message:${markup}`,
      `SEND ${topic} escaped:\\x1b[31mred\\x07\\x00\\u202e`.replace("\\u202e", "\u202e\\n<b>"),
      `SEND ${topic} base64:${Buffer.from([0xff, 0, 0xfe, 0x80]).toString("base64")}`,
      `SEND ${topic} message:${"<b>x</b>".repeat(120_000)}`,
      `SEND ${topic} message:{"__proto__": {"a": 12345678901234567890}, "b": [], "b": {}}`]);
    const page = await open(`messages/${topic}?from=earliest`);
    const choose = async (n) => {
      await page.locator(".messages .row").nth(n).click();
      await shows(page, ".detail h2", new RegExp(`0:${n}$`));
    };
    const body = () => page.locator(".detail section").last().locator("pre").first().textContent();
    await choose(0);
    equal(await body(), markup);
    equal(await page.locator(".detail .headers").textContent(), "<i>name</i><u>held</u>");
    await choose(1);
    equal(await body(), "␛[31mred␇␀\\u202e\n<b>");
    await choose(2);
    equal(await page.locator(".detail .hex .digits").first().textContent(), "ff 00 fe 80");
    await choose(3);
    equal((await body()).length, 65536);
    await page.getByRole("button", { name: /^Show all/ }).click();
    equal((await body()).length, 960_000);
    await page.getByRole("button", { name: "Hex" }).last().click();
    holds((await page.locator(".detail .row").count()) < 80, "of a long value only what is seen is in the page");
    await choose(4);
    equal(await body(), '{\n  "__proto__": {\n    "a": 12345678901234567890\n  },\n  "b": [],\n  "b": {}\n}');
    equal(await page.locator("main").locator("img, script, b, i, u, a[href^=javascript]").count(), 0);
    // Names of others steer nothing either, and many headers are shown some at a time.
    const group = `${fresh("<b>readers")}\u202e\u001b`;
    await stored([`RESET ${group.replace("\u001b", "\\x1b")} ${topic}/0 0`, `SEND ${topic} ${numbers(0, 30_000).map((n) => `header.h${n}:v`).join(" ")} message:many`]);
    await page.goto(`${base}#/groups`);
    await shows(page, "tbody", /<b>readers-[0-9a-f]+\\u202e␛/);
    await page.goto(`${base}#/messages/${topic}`);
    await page.locator(".messages .row").first().click();
    await until(async () => (await page.locator(".headers dt").count()) === 100, "100 of its headers are shown");
    await page.getByRole("button", { name: "Show more of 30,000 headers" }).click();
    equal(await page.locator(".headers dt").count(), 200);
    await done(page);
  },

  async wire_shows_each_byte_beside_its_field() {
    const topic = fresh("wired");
    const page = await open("wire");
    await page.getByRole("button", { name: "Watch" }).click();
    await shows(page, ".status", /^Watching/);
    await stored([`SEND ${topic} key:user-1 message:hello`]);
    const row = page.locator(".exchanges .row").filter({ hasText: `SEND ${topic} key:user-1` });
    await row.first().click();
    await shows(page, ".exchange .said", new RegExp(`^SEND ${topic} key:user-1 message:hello$`));
    const fields = page.locator(".exchange .fields").first();
    await fields.locator(".row").filter({ hasText: "user-1" }).click();
    const lit = () => page.evaluate(() => [...(CSS.highlights.get("lit") ?? [])].map((range) => range.toString()).join("|"));
    await until(async () => /75 73 65 72 2d 31/.test((await lit()).replaceAll("|", " ")), lit);
    // The other way: the first byte of the line belongs to its verb.
    await page.locator(".exchange .hex .digits").first().click({ position: { x: 4, y: 8 } });
    await until(async () => /SEND/.test(await fields.locator("[aria-selected=true]").textContent()), "the verb is chosen");
    await page.getByRole("button", { name: "Stop" }).click();
    await shows(page, ".status", /^Not watching/);
    // Who leaves before it was answered that it is on leaves nothing on.
    await page.route("**/api/wire", async (route) => {
      if (route.request().method() === "POST" && route.request().postData().includes('"on":true')) await new Promise((later) => setTimeout(later, 500));
      await route.continue();
    });
    await page.getByRole("button", { name: "Watch" }).click();
    await page.goto(`${base}#/topics`);
    const isOn = () => page.evaluate(async () => {
      const body = (await fetch("api/wire", { headers: { Accept: "text/event-stream" } })).body.getReader();
      const { value } = await body.read();
      await body.cancel();
      return new TextDecoder().decode(value).includes('"on":true');
    });
    await page.waitForResponse((answer) => answer.url().endsWith("/api/wire") && answer.request().postData()?.includes('"on":true'));
    await until(async () => !(await isOn()), "it is off");
    await done(page);
  },

  async every_call_is_tried() {
    const topic = fresh("tried");
    const page = await open("try");
    const ask = async (call, fill = {}) => {
      await page.getByLabel("Request", { exact: true }).selectOption(call);
      for (const [name, value] of Object.entries(fill)) await page.getByLabel(name, { exact: true }).fill(value);
      await page.locator(".below > *").evaluateAll((old) => old.forEach((one) => one.remove()));
      await page.getByRole("button", { name: "Send" }).click();
      await until(async () => (await page.locator(".below .hex").count()) === 2, async () => `${call.label}: ${await status(page)}`);
    };
    const verbs = (await netcat(["HELP"])).flatMap((line) => /: ([A-Z ]+)$/.exec(line)?.[1].split(" ") ?? []);
    const offered = await page.getByLabel("Request", { exact: true }).locator("optgroup[label=Text] option").allTextContents();
    equal(verbs.filter((verb) => !offered.includes(verb)), []);
    holds(verbs.length > 20, verbs.join());
    await ask({ label: "CREATE" }, { Line: `CREATE ${topic} partitions:2` });
    await ask({ label: "ApiVersions" });
    for (const call of ["Metadata", "DescribeTopicPartitions"]) await ask({ label: call }, { Topic: topic });
    await ask({ label: "CreateTopics" }, { Topic: fresh("tried-too") });
    await ask({ label: "Produce" }, { Topic: topic, Partition: "1", Key: "k", Value: "by Kafka" });
    await ask({ label: "Fetch" }, { Topic: topic, Partition: "1", Offset: "0" });
    await until(async () => (await page.locator(".below section").last().locator(".fields").textContent()).includes("INT"), "the answer's fields have types");
    await ask({ label: "TAIL" }, { Line: `TAIL ${topic}/1 from:earliest until:end` });
    await shows(page, ".below section:last-child .said", /offset:0 key:k message:by Kafka/);
    await page.getByLabel("Request", { exact: true }).selectOption({ label: "DROP" });
    await page.getByLabel("Line").fill(`DROP ${topic}`);
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("button", { name: "Send it" }).click();
    await until(async () => !(await netcat(["TOPICS"])).join("\n").includes(topic), "it is deleted once that was confirmed");
    await done(page);
  },

  async the_lesson_runs_step_by_step() {
    const page = await open("learn");
    const steps = page.locator(".steps li");
    for (const n of numbers(0, await steps.count())) {
      await steps.nth(n).getByRole("button", { name: /^Run/ }).click();
      await until(async () => (await steps.nth(n).locator(".answer > *").count()) > 0, `step ${n + 1} is answered`);
      equal(await steps.nth(n).locator(".bad").count(), 0);
    }
    await shows(page, ".steps li:nth-child(3) .said", /key:user-1 message:hello/);
    await page.getByRole("button", { name: "Clear the lesson away…" }).click();
    await page.getByRole("button", { name: "Delete lesson" }).click();
    await until(async () => !(await netcat(["TOPICS"])).join("\n").includes("topic:lesson"), "the lesson's topic is gone");
    holds((await page.locator(".drawing .box").count()) > 1, "what runs is drawn");
    await done(page);
  },

  async connections_are_listed_with_their_clients() {
    const socket = connect(Number(port), host);
    socket.write("PING\n");
    await new Promise((answered) => socket.once("data", answered));
    const page = await open("connections");
    const row = page.locator("tbody tr").filter({ hasText: `:${socket.localPort}` });
    await row.waitFor();
    await page.getByRole("searchbox").fill(`:${socket.localPort}`);
    await until(async () => (await page.locator("tbody tr").count()) === 1, "the filter leaves one connection");
    holds(/text/.test(await row.textContent()), await row.textContent());
    socket.end();
    await row.waitFor({ state: "detached" });
    await done(page);
  },

  async it_is_used_by_keyboard_alone() {
    const topic = fresh("keyboard");
    await stored([`CREATE ${topic} partitions:1`, `SEND ${topic} message:one`, `SEND ${topic} message:two`]);
    const page = await open("topics");
    await page.keyboard.press("/");
    await page.keyboard.type(topic);
    await until(async () => (await page.locator("tbody tr").count()) === 1, "the filter has the keys");
    const focused = () => page.evaluate(() => document.activeElement.textContent);
    for (let n = 0; n < 20 && (await focused()) !== "Messages" || !(await page.evaluate(() => document.activeElement.closest("tbody"))); n++) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForURL(`**/#/messages/${topic}`);
    await shows(page, ".messages .row .value", /two/);
    for (let n = 0; n < 40 && !(await page.evaluate(() => document.activeElement.matches(".messages"))); n++) await page.keyboard.press("Tab");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await shows(page, ".detail h2", /0:0$/);
    holds(await page.locator(".messages").evaluate((list) => document.getElementById(list.getAttribute("aria-activedescendant"))?.ariaSelected === "true"), "a screen reader is told what is chosen");
    await page.keyboard.press("Escape");
    await page.locator(".detail").waitFor({ state: "hidden" });
    await done(page);
  },

  async a_page_of_another_origin_neither_reads_nor_writes() {
    const [topic, kept] = [fresh("foreign"), fresh("kept")];
    await stored([`CREATE ${kept} partitions:1`]);
    const server = createServer((_, answer) => answer.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>elsewhere</title>"));
    await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
    try {
      for (const other of ["127.0.0.1", "localhost"]) {
        const page = await (await browser.newContext()).newPage();
        await page.goto(`http://${other}:${server.address().port}/`);
        const outcome = await page.evaluate(async ({ base, topic, kept }) => {
          const tried = (work) => work.then((result) => result, (error) => `refused: ${error.name}`);
          const body = JSON.stringify({ name: topic });
          const json = { "Content-Type": "application/json" };
          const form = Object.assign(document.createElement("form"), { action: `${base}api/topics`, method: "post", enctype: "text/plain", target: "frame" });
          const frame = Object.assign(document.createElement("iframe"), { name: "frame" });
          form.append(Object.assign(document.createElement("input"), { name: body }));
          document.body.append(frame, form);
          form.submit();
          await new Promise((loaded) => (frame.onload = loaded));
          return {
            read: await tried(fetch(`${base}api/topics`).then((answer) => answer.text())),
            page: await tried(fetch(base).then((answer) => answer.text())),
            written: await tried(fetch(`${base}api/topics`, { method: "POST", headers: json, body }).then((answer) => answer.status)),
            blind: await tried(fetch(`${base}api/topics`, { method: "POST", mode: "no-cors", body }).then((answer) => answer.type)),
            removed: await tried(fetch(`${base}api/topics/${kept}`, { method: "DELETE" }).then((answer) => answer.status)),
            long: await tried(fetch(`${base}${"x".repeat(17_000)}`, { method: "POST", mode: "no-cors", body: `\nDROP ${kept}\nSEND ${topic} message:x\n` }).then((answer) => answer.type)),
            script: await new Promise((ended) => {
              const script = Object.assign(document.createElement("script"), { src: `${base}console/app.js`, onload: () => ended("loaded"), onerror: () => ended("refused") });
              document.head.append(script);
            }),
            events: await new Promise((ended) => {
              const events = new EventSource(`${base}api/wire`);
              [events.onopen, events.onerror] = [() => ended("open"), () => (events.close(), ended("refused"))];
            }),
          };
        }, { base, topic, kept });
        for (const name of ["read", "page", "written", "blind", "removed", "long"]) equal([name, outcome[name]], [name, "refused: TypeError"]);
        for (const name of ["script", "events"]) equal([name, outcome[name]], [name, "refused"]);
        await done(page);
      }
      const topics = (await netcat(["TOPICS"])).join("\n");
      holds(!topics.includes(topic) && topics.includes(kept), `no topic came to be, and none was deleted: ${topics}`);
    } finally {
      server.close();
    }
  },
};

// The reference speaks no HTTP.
await run(checks, await fetch(base).then((answer) => answer.ok, () => false));
