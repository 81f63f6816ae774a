<?php
// Sends one mail with PHPMailer; argv[1] is the task as JSON (tests/clients/programs.py).
$task = json_decode($argv[1], true, 8, JSON_THROW_ON_ERROR);
require $task['module'];

$mail = new PHPMailer\PHPMailer\PHPMailer(true);
try {
    $mail->isSMTP();
    $mail->Host = 'localhost';
    $mail->Port = $task['port'];
    $mail->SMTPAuth = true;
    $mail->Username = $task['username'];
    $mail->Password = $task['password'];
    $mail->SMTPSecure = $task['implicit'] ? 'ssl' : 'tls';
    $mail->SMTPOptions = ['ssl' => ['cafile' => $task['authority'], 'verify_peer' => true, 'verify_peer_name' => true]];
    $mail->CharSet = 'UTF-8';
    $mail->setFrom($task['sender']);
    $mail->addAddress($task['recipient']);
    $mail->Subject = $task['subject'];
    $mail->isHTML(true);
    $mail->Body = '<p>' . htmlspecialchars($task['text']) . '</p>';
    $mail->AltBody = $task['text'];
    $mail->send();
} catch (Throwable $error) {
    fwrite(STDERR, $error->getMessage() . "\n" . $mail->ErrorInfo);
    exit(1);
}
