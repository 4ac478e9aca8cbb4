const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host);

/** What `isServiceAddress` asks for, to be said of what is none. */
export const SERVICE_ADDRESS_FORM =
  'an https address without user, password and fragment (http on loopback only)';

/** Whether secrets may be sent there: https, or http on this machine; what it is asked with is never in the address. */
export const isServiceAddress = (text: string): boolean => {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password, hash } = new URL(text);
  const isPlain = username === '' && password === '' && hash === '';
  return isPlain && (protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname)));
};
