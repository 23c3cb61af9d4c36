// Two players, one film: what each can do, and what its server said.

const SEEK_TO = 0.9;
const PATIENCE = 20_000; // ms until a seek that shows nothing counts as hanging

const WORDS = {
  hit: () => "the answer came from the spool; the origin was not asked",
  fwd: (reason) => ({
    "uri-miss": "nothing was stored under this URL yet, so the origin was asked",
    "vary-miss": "what was stored did not fit this request, so the origin was asked",
    "miss": "nothing suitable was stored, so the origin was asked",
    "stale": "what was stored was no longer fresh, so the origin was asked",
    "request": "the request wanted the origin’s own word",
    "bypass": "this answer is not kept; the origin is asked every time",
    "partial": "a part was stored, the rest was not",
  })[reason] ?? "the origin was asked",
  "fwd-status": (status) => `the origin answered ${status}`,
  stored: () => "the origin’s answer is kept in the spool",
  collapsed: () => "the request joined a fetch that was running already",
  ttl: (seconds) => `fresh for ${seconds} more seconds`,
  key: () => "what the answer is kept under",
  detail: (word) => `the adapter’s reason: ${word}`,
};

// Numbers keep together with their units: the spaces in these are no-break spaces.
const seconds = (value) => `${value.toFixed(1)}\u00a0s`;

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)}\u00a0MB`;

function once(target, names, limit) {
  // Resolves with the event that came first, or null when the time is over.
  return new Promise((resolve) => {
    const quit = new AbortController();
    const settle = (event) => {
      clearTimeout(timer);
      quit.abort();
      resolve(event);
    };
    const timer = setTimeout(settle, limit, null);
    for (const name of names) {
      target.addEventListener(name, settle, { signal: quit.signal });
    }
  });
}

class Player {
  constructor(id, origin) {
    this.root = document.getElementById(id);
    this.video = this.root.querySelector("video");
    this.verdict = this.root.querySelector(".verdict");
    this.origin = origin;
    this.probed = () => {};
    this.root.querySelector(".seek").addEventListener("click", () => this.seek());
    for (const name of ["loadedmetadata", "progress", "timeupdate", "seeking", "seeked", "durationchange"]) {
      this.video.addEventListener(name, () => this.showMedia());
    }
    this.video.addEventListener("loadedmetadata", () => this.judgeReach());
    this.video.addEventListener("error", () => {
      this.say("fails", `Cannot play: ${this.video.error.message || "the browser gives up"}`);
    });
  }

  load(film) {
    this.url = new URL(film, this.origin).href;
    this.root.querySelector(".url").textContent = this.url;
    this.say("waiting", "Waiting for the film’s index, at the end of the file");
    this.video.src = this.url;
    this.showMedia();
    return this.probe();
  }

  say(state, words) {
    this.verdict.dataset.state = state;
    this.verdict.textContent = words;
  }

  show(fact, text) {
    this.root.querySelector(`[data-fact="${fact}"]`).textContent = text;
  }

  get reach() {
    const { seekable } = this.video;
    return seekable.length ? [seekable.start(0), seekable.end(seekable.length - 1)] : [0, 0];
  }

  get seeks() {
    return this.reach[1] >= this.video.duration - 0.5;
  }

  get reachInWords() {
    return `[${this.reach.map((end) => Number(end.toFixed(1))).join(",\u00a0")}]`;
  }

  showMedia() {
    const { duration, currentTime } = this.video;
    const known = Number.isFinite(duration);
    this.show("seekable", known ? `${this.reachInWords} of ${seconds(duration)}` : "–");
    this.show("position", known ? `${seconds(currentTime)} of ${seconds(duration)}` : "–");
  }

  judgeReach() {
    if (this.seeks) {
      this.say("works", "Can seek: the whole film is in reach");
    } else {
      this.say("fails", `Cannot seek: seekable is ${this.reachInWords}`);
    }
  }

  async seek() {
    const { video } = this;
    if (video.readyState === 0 && !video.error) {
      await once(video, ["loadedmetadata", "error"], PATIENCE);
    }
    if (video.readyState === 0) {
      return;
    }
    const wanted = SEEK_TO * video.duration;
    const begin = performance.now();
    this.say("waiting", `Seeking to ${seconds(wanted)}`);
    video.currentTime = wanted;
    const event = await once(video, ["seeked", "error"], PATIENCE);
    const took = seconds((performance.now() - begin) / 1000);
    if (event === null) {
      this.say("fails", `Cannot seek: still waiting for ${seconds(wanted)} after ${took}`);
    } else if (event.type === "seeked" && Math.abs(video.currentTime - wanted) < 2) {
      this.say("works", `Seeking works: ${seconds(wanted)} was there after ${took}`);
    } else if (event.type === "seeked") {
      this.say("fails", `Cannot seek: seekable is ${this.reachInWords}, so the player went to ${seconds(video.currentTime)}`);
    }
    await this.probe();
  }

  async probe() {
    // Two bytes are asked for.  A server without ranges begins to send everything: the head is enough.
    const quit = new AbortController();
    const headers = { Range: "bytes=0-1" };
    if (new URL(this.url).origin === location.origin) {
      // The browser's own cache shall keep out of it, but "no-store" alone would also send "no-cache".
      headers["Cache-Control"] = "max-age=31536000";
    }
    try {
      const answer = await fetch(this.url, {
        headers,
        cache: "no-store",
        signal: quit.signal,
      });
      this.show("status", `${answer.status} ${answer.statusText}`);
      this.show("content-range", answer.headers.get("Content-Range") ?? "none");
      this.show("accept-ranges", answer.headers.get("Accept-Ranges") ?? "none");
      this.probed(answer.headers.get("Cache-Status"));
      if (answer.status === 206) {
        await answer.arrayBuffer(); // to its end, so that the connection can be used again
      }
    } catch (error) {
      this.show("status", `no answer (${error.message})`);
    } finally {
      quit.abort();
    }
  }
}

function explainCacheStatus(value) {
  // The last member of the list is the cache nearest to us (RFC 9211); its parameters follow the semicolons.
  document.getElementById("cache-status").textContent = `Cache-Status: ${value?.replaceAll(";", "; ") ?? "none"}`;
  const parameters = (value ?? "").split(",").at(-1).split(";").slice(1).map((text) => text.trim());
  const lines = parameters.flatMap((parameter) => {
    const [name, argument = ""] = parameter.split("=");
    const words = WORDS[name]?.(argument.replaceAll('"', ""));
    if (!words) {
      return [];
    }
    const line = document.createElement("li");
    const code = document.createElement("code");
    code.textContent = parameter;
    line.append(code, ` – ${words}`);
    return [line];
  });
  document.getElementById("cache-status-words").replaceChildren(...lines);
}

function showCommands(players) {
  const line = ({ url }) => `curl -s -D - -o /dev/null -r 0-1 '${url}'`;
  document.getElementById("commands").textContent = [
    "# straight at the origin: 200, the whole film",
    line(players.straight),
    "",
    "# through range-adapter: 206, two bytes",
    line(players.adapter),
  ].join("\n");
}

async function showTraffic(players, film) {
  const answer = await fetch(`/traffic.json?film=${encodeURIComponent(film)}`);
  const traffic = await answer.json();
  for (const [way, { requests, sent }] of Object.entries(traffic)) {
    const times = requests === 1 ? "1 request" : `${requests} requests`;
    players[way].show("traffic", `${times}, ${megabytes(sent)}`);
  }
}

async function main() {
  const config = await (await fetch("/config.json")).json();
  const players = {
    straight: new Player("straight", config.straight),
    adapter: new Player("adapter", location.origin),
  };
  const both = Object.values(players);
  let film = "/video.mp4";

  const load = () => {
    for (const player of both) {
      player.load(film);
    }
    showCommands(players);
  };

  players.adapter.probed = explainCacheStatus;
  document.getElementById("seek-both").addEventListener("click", () => {
    for (const player of both) {
      player.seek();
    }
  });
  const play = document.getElementById("play-both");
  play.addEventListener("click", () => {
    const start = both.every(({ video }) => video.paused);
    play.textContent = start ? "Pause both" : "Play both";
    for (const { video } of both) {
      if (start) {
        video.play().catch(() => {}); // the player shows its own error
      } else {
        video.pause();
      }
    }
  });
  document.getElementById("again").addEventListener("click", () => {
    film = `/video.mp4?take=${Date.now().toString(36)}`; // another URL, another object in the spool
    play.textContent = "Play both";
    load();
  });
  setInterval(() => {
    if (!document.hidden) {
      showTraffic(players, film).catch(() => {}); // the next one may succeed
    }
  }, 1000);
  load();
}

main();
