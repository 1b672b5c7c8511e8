// A client that is cut off must not end a server, as it does where nobody listens for that socket's error.
process.on('uncaughtException', (error) => {
  console.error(error);
  if (!error || !['ECONNRESET', 'EPIPE'].includes(error.code)) process.exit(1);
});
