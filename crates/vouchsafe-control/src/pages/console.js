// Scripts of the console: what is new without loading anew, and checking while somebody types. Pages read the same
// without them.
'use strict';

// A browser may keep a page as it is, whatever the header says, and show it on the way back without asking us: also to
// whoever sits there after a sign-out.
addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });

for (const form of document.querySelectorAll('form[data-confirm]')) {
  form.addEventListener('submit', (event) => {
    if (!confirm(form.dataset.confirm)) event.preventDefault();
  });
}

// The newest decisions. Rows come from our own server, where every text in them is escaped.
const feed = document.querySelector('[data-feed]');
if (feed) {
  const most = 20;
  const state = document.querySelector('[data-feed-state]');
  const say = (text) => { if (state) state.textContent = text; };
  const source = new EventSource(feed.dataset.feed);
  source.addEventListener('open', () => say('live'));
  source.addEventListener('error', () => say('not connected'));
  source.addEventListener('rows', (event) => {
    const made = document.createElement('template');
    made.innerHTML = event.data;
    for (const row of made.content.querySelectorAll('tr')) row.classList.add('new');
    const empty = feed.querySelector('[data-empty]');
    if (empty) empty.remove();
    feed.prepend(made.content);
    while (feed.rows.length > most) feed.rows[feed.rows.length - 1].remove();
  });
  source.addEventListener('flows', (event) => {
    const flows = document.querySelector('[data-flows]');
    if (flows) flows.textContent = event.data;
  });
  addEventListener('pagehide', () => source.close());
}

// What is wrong with a policy, a moment after somebody stopped to type.
const editor = document.querySelector('form[data-check]');
if (editor) {
  const found = document.getElementById('found');
  let timer = 0;
  let asked = 0;
  const check = async () => {
    const mine = ++asked;
    try {
      const answer = await fetch(editor.dataset.check, {
        method: 'POST', body: new URLSearchParams(new FormData(editor)), credentials: 'same-origin',
      });
      if (!answer.ok || mine !== asked) return;
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const fresh = page.getElementById('found');
      if (fresh && found) found.replaceChildren(...fresh.childNodes);
    } catch {
      // Whoever is offline keeps what she typed, and can check by the button.
    }
  };
  editor.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(check, 900);
  });
}
