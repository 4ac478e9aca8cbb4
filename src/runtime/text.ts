/** Longest foreign identifier kept, in UTF-16 code units. */
export const MAX_FOREIGN_TEXT = 1024;

const NUL = /\u0000/g;

/**
 * Makes text from outside safe to store: well-formed Unicode, no NUL (Postgres refuses it), length-capped.
 * Applied at decode, so nothing later needs to ask.
 */
export const cleanText = (text: string, maxLength: number = MAX_FOREIGN_TEXT): string =>
  text.slice(0, maxLength).toWellFormed().replace(NUL, '\ufffd');

/** Strips the zone id of a scoped IPv6 address (`fe80::1%eth0` → `fe80::1`). */
export const withoutZone = (address: string): string => {
  const at = address.indexOf('%');
  return at === -1 ? address : address.slice(0, at);
};

const CONTROL = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** Escapes control and direction-changing characters before text is shown on a terminal. */
export const terminalText = (text: string): string =>
  text.toWellFormed().replace(CONTROL, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
