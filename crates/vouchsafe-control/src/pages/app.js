// Scripts of the sign-in host: passkey ceremonies. No dependencies; errors go to #notice.
'use strict';

// A browser may keep a page as it is, whatever the header says, and show it on the way back without asking us: also to
// whoever sits there after a sign-out.
addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });

const say = (text) => {
  const notice = document.getElementById('notice');
  if (!notice) return;
  notice.textContent = text;
  notice.hidden = text === '';
};

const post = async (path, body, csrf) => {
  const headers = { 'content-type': 'application/json' };
  if (csrf) headers['x-vouchsafe-csrf'] = csrf;
  const response = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body), credentials: 'same-origin' });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.title || 'That did not work.');
  return answer;
};

// Why a browser gave up, in words a person can act on.
const reason = (error) => {
  switch (error.name) {
    case 'NotAllowedError': return 'Nothing was done: the browser’s dialog was closed, or no passkey for this site is here.';
    case 'InvalidStateError': return 'This authenticator has a passkey for you already.';
    case 'NotSupportedError':
    case 'SecurityError': return 'This browser can’t use passkeys here. Open this page over HTTPS in a current browser.';
    case 'TypeError': return 'The server can’t be reached, or this browser is too old for passkeys.';
    default: return error.message || 'That did not work.';
  }
};

const busy = async (button, work) => {
  say('');
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    say(reason(error));
    button.disabled = false;
  }
};

const create = async (begun, name, csrf) => {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.publicKey);
  const credential = await navigator.credentials.create({ publicKey });
  return post('/webauthn/register/finish', { ceremony: begun.ceremony, name, credential: credential.toJSON() }, csrf);
};

const here = () => (navigator.userAgentData && navigator.userAgentData.platform) || 'Passkey';

const signIn = document.querySelector('[data-sign-in]');
if (signIn) {
  signIn.focus();
  signIn.addEventListener('click', () => busy(signIn, async () => {
    const begun = await post('/webauthn/authenticate/start', {});
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.publicKey);
    const credential = await navigator.credentials.get({ publicKey });
    const answer = await post('/webauthn/authenticate/finish', {
      ceremony: begun.ceremony, credential: credential.toJSON(), next: signIn.dataset.next,
      fresh: signIn.dataset.fresh !== undefined,
    });
    location.replace(answer.next);
  }));
}

const invite = document.querySelector('[data-invite]');
if (invite) {
  const part = (name) => invite.querySelector(`[data-invite-${name}]`);
  const token = location.hash.slice(1);
  const begin = () => post('/webauthn/register/start', { invite: token });
  const accept = part('accept');
  let begun = null;
  let since = 0;
  const show = async () => {
    try {
      if (token === '') throw new Error('The link is not complete. Copy all of it, also what stands behind “#”.');
      begun = await begin();
      since = Date.now();
      part('user').textContent = begun.user;
      part('recovery').hidden = !begun.recovery;
      part('wait').hidden = true;
      part('ready').hidden = false;
      accept.focus();
    } catch (error) {
      part('wait').hidden = true;
      say(reason(error));
    }
  };
  accept.addEventListener('click', () => busy(accept, async () => {
    // A ceremony lives five minutes and is used once.
    if (begun === null || Date.now() - since > 240000) begun = await begin();
    const present = begun;
    begun = null;
    const answer = await create(present, here());
    history.replaceState(null, '', '/invite');
    location.replace(answer.next);
  }));
  show();
  addEventListener('hashchange', () => location.reload());
}

const add = document.querySelector('[data-add-passkey]');
if (add) {
  add.addEventListener('click', () => busy(add, async () => {
    const name = document.getElementById('passkey-name').value;
    const begun = await post('/webauthn/register/start', {}, add.dataset.csrf);
    await create(begun, name || here(), add.dataset.csrf);
    location.reload();
  }));
}

for (const form of document.querySelectorAll('form[data-confirm]')) {
  form.addEventListener('submit', (event) => {
    if (!confirm(form.dataset.confirm)) event.preventDefault();
  });
}
