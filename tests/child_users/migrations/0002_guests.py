from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("child_users", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Guest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                (
                    "last_login",
                    models.DateTimeField(blank=True, null=True, verbose_name="last login"),
                ),
                ("uuid", models.UUIDField(null=True)),
                ("integer", models.BigIntegerField(null=True)),
                ("decimal", models.DecimalField(decimal_places=2, max_digits=8, null=True)),
                ("fraction", models.FloatField(null=True)),
                ("date", models.DateField(null=True)),
                ("moment", models.DateTimeField(null=True)),
                ("duration", models.DurationField(null=True)),
                ("address", models.GenericIPAddressField(null=True)),
            ],
            options={"abstract": False},
        ),
    ]
