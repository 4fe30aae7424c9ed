# postrider on EC2 Graviton: a group of daemons that follows /scale, APIs behind a load balancer,
# Postgres that nobody but them reaches. An example to start from; docs/deploy/ec2.md walks through it.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = { source = "hashicorp/aws", version = "~> 5.0" }
  }
}

variable "region" { type = string }
variable "vpc_id" { type = string }
variable "private_subnets" { type = list(string) }
variable "ami" {
  type        = string
  description = "An arm64 image with the programs and units of the release (make dist) installed"
}
variable "daemon_type" {
  type    = string
  default = "c7g.large"
}
variable "least" {
  type    = number
  default = 2
}
variable "most" {
  type    = number
  default = 10
}
variable "secrets_prefix" {
  type        = string
  default     = "/postrider"
  description = "SSM parameters (SecureString): PREFIX/key and PREFIX/database-password"
}
variable "secrets_key_arn" {
  type        = string
  description = "The KMS key under which the parameters are encrypted"
}

provider "aws" { region = var.region }
data "aws_caller_identity" "me" {}

# --- who reaches whom ----------------------------------------------------------------------

resource "aws_security_group" "daemon" {
  name   = "postriderd"
  vpc_id = var.vpc_id
}
resource "aws_security_group" "api" {
  name   = "postrider-api"
  vpc_id = var.vpc_id
}
resource "aws_security_group" "balancer" {
  name   = "postrider-balancer"
  vpc_id = var.vpc_id
}
resource "aws_security_group" "database" {
  name   = "postrider-database"
  vpc_id = var.vpc_id
}
resource "aws_security_group" "monitor" {
  name   = "postrider-monitor"
  vpc_id = var.vpc_id
}

# Postgres: from the daemons and the APIs, from nowhere else, and it calls nobody.
resource "aws_vpc_security_group_ingress_rule" "database" {
  for_each                     = { daemon = aws_security_group.daemon.id, api = aws_security_group.api.id }
  security_group_id            = aws_security_group.database.id
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
resource "aws_vpc_security_group_egress_rule" "to_database" {
  for_each                     = { daemon = aws_security_group.daemon.id, api = aws_security_group.api.id }
  security_group_id            = each.value
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
# Daemons: mail, names, and the AWS API for the lifecycle; nobody calls them but the monitor.
resource "aws_vpc_security_group_egress_rule" "daemon" {
  for_each          = { smtp = [25, "tcp"], submission = [587, "tcp"], https = [443, "tcp"], dns = [53, "udp"], dns_tcp = [53, "tcp"] }
  security_group_id = aws_security_group.daemon.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = each.value[1]
  from_port         = each.value[0]
  to_port           = each.value[0]
}
resource "aws_vpc_security_group_ingress_rule" "scrape" {
  for_each                     = { daemon = [aws_security_group.daemon.id, 9025], api = [aws_security_group.api.id, 9026] }
  security_group_id            = each.value[0]
  referenced_security_group_id = aws_security_group.monitor.id
  ip_protocol                  = "tcp"
  from_port                    = each.value[1]
  to_port                      = each.value[1]
}
# APIs: from the balancer only.
resource "aws_vpc_security_group_ingress_rule" "api" {
  security_group_id            = aws_security_group.api.id
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = 8025
  to_port                      = 8025
}
resource "aws_vpc_security_group_ingress_rule" "public" {
  security_group_id = aws_security_group.balancer.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.balancer.id
  referenced_security_group_id = aws_security_group.api.id
  ip_protocol                  = "tcp"
  from_port                    = 8025
  to_port                      = 8025
}

# --- what an instance may do -----------------------------------------------------------------

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}
data "aws_iam_policy_document" "daemon" {
  statement {
    sid       = "ReadItsSecrets"
    actions   = ["ssm:GetParameter"]
    resources = [for name in ["key", "database-password"] : "arn:aws:ssm:${var.region}:${data.aws_caller_identity.me.account_id}:parameter${var.secrets_prefix}/${name}"]
  }
  statement {
    sid       = "OpenThem"
    actions   = ["kms:Decrypt"]
    resources = [var.secrets_key_arn]
  }
  statement {
    sid       = "SayThatItHasDrained"
    actions   = ["autoscaling:CompleteLifecycleAction"]
    resources = ["arn:aws:autoscaling:${var.region}:${data.aws_caller_identity.me.account_id}:autoScalingGroup:*:autoScalingGroupName/postriderd"]
  }
  statement {
    sid       = "TellTheSuggestion"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"] # has no resources; narrowed by the namespace
    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["postrider"]
    }
  }
}
resource "aws_iam_role" "daemon" {
  name               = "postriderd"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}
resource "aws_iam_role_policy" "daemon" {
  role   = aws_iam_role.daemon.id
  policy = data.aws_iam_policy_document.daemon.json
}
resource "aws_iam_instance_profile" "daemon" {
  name = "postriderd"
  role = aws_iam_role.daemon.name
}

# --- the daemons -----------------------------------------------------------------------------

resource "aws_launch_template" "daemon" {
  name_prefix            = "postriderd-"
  image_id               = var.ami
  instance_type          = var.daemon_type
  vpc_security_group_ids = [aws_security_group.daemon.id]
  user_data              = base64encode(templatefile("${path.module}/user-data.sh", { region = var.region, prefix = var.secrets_prefix }))
  iam_instance_profile { name = aws_iam_instance_profile.daemon.name }
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  monitoring { enabled = true }
}
resource "aws_autoscaling_group" "daemon" {
  name                      = "postriderd"
  min_size                  = var.least
  max_size                  = var.most
  vpc_zone_identifier       = var.private_subnets
  health_check_grace_period = 60
  launch_template {
    id      = aws_launch_template.daemon.id
    version = "$Latest"
  }
  instance_refresh {
    strategy = "Rolling"
    preferences { min_healthy_percentage = 90 }
  }
  tag {
    key                 = "Name"
    value               = "postriderd"
    propagate_at_launch = true
  }
}
# Before an instance ends it stops its daemon, which finishes what is in hand (drain.service of
# user-data.sh), and says so. Whatever happens, it ends after two minutes: what was left is rescued.
resource "aws_autoscaling_lifecycle_hook" "drain" {
  name                   = "drain"
  autoscaling_group_name = aws_autoscaling_group.daemon.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = 120
  default_result         = "CONTINUE"
}
# Every daemon tells the same suggestion; the group follows it: metric / instances = 1.
resource "aws_autoscaling_policy" "follow" {
  name                   = "follow-scale"
  autoscaling_group_name = aws_autoscaling_group.daemon.name
  policy_type            = "TargetTrackingScaling"
  target_tracking_configuration {
    target_value = 1
    customized_metric_specification {
      metrics {
        id          = "suggested"
        return_data = false
        metric_stat {
          stat = "Maximum"
          metric {
            namespace   = "postrider"
            metric_name = "SuggestedReplicas"
          }
        }
      }
      metrics {
        id          = "living"
        return_data = false
        metric_stat {
          stat = "Average"
          metric {
            namespace   = "AWS/AutoScaling"
            metric_name = "GroupInServiceInstances"
            dimensions {
              name  = "AutoScalingGroupName"
              value = "postriderd"
            }
          }
        }
      }
      metrics {
        id         = "each"
        expression = "suggested / living"
      }
    }
  }
}
