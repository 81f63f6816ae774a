// Sends one mail with nodemailer; argv[2] is the task as JSON (tests/clients/programs.py).
const task = JSON.parse(process.argv[2])
const nodemailer = require(task.module)
const fs = require('node:fs')

const transport = nodemailer.createTransport({
  host: '127.0.0.1', // by name it would try ::1 first where the machine has it
  port: task.port,
  secure: task.implicit,
  requireTLS: !task.implicit,
  tls: { ca: fs.readFileSync(task.authority), servername: 'localhost' },
  auth: { user: task.username, pass: task.password },
})
transport
  .sendMail({ from: task.sender, to: task.recipient, subject: task.subject, text: task.text, html: `<p>${task.text}</p>` })
  .then((info) => process.stdout.write(info.response), (error) => {
    process.stderr.write(String(error))
    process.exitCode = 1
  })
