with

    transactions as (select * from {{ ref("stg_completejourney__transactions") }}),

    final as (

        select
            cast(purchased_at as date) as sales_date,
            cast(sum(sales_value) as decimal(18, 2)) as revenue,
            cast(count(distinct basket_id) as integer) as baskets,
            cast(count(distinct household_id) as integer) as customers,
            cast(count(*) as integer) as order_lines,
            cast(sum(quantity) as bigint) as units,
            cast(
                sum(
                    retail_discount + coupon_discount + coupon_match_discount
                ) as decimal(18, 2)
            ) as discount
        from transactions
        group by sales_date

    )

select *
from final
